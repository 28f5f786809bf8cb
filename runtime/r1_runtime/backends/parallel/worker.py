"""A rank other than 0: connect to the leader, load, compute steps until the leader stops.

    python -m r1_runtime.backends.parallel.worker --leader HOST --port PORT --rank R --local L

The exit code is 0 after the leader's STOP, 2 where the leader does not start, and 1 otherwise. Signals are left to the leader: the
requests in flight need every rank until they end.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.link import Link, Message, MessageKind, connect
from r1_runtime.backends.parallel.plan_bytes import decode_plan
from r1_runtime.errors import RankLostError, RuntimeFault, StartRefusedError

CONNECT_SECONDS = 600.0  # until a leader on another machine listens
_CAUSE_SECONDS = 1.0
_log = logging.getLogger("r1_runtime")


def run_worker(host: str, port: int, rank: int, local: int, seconds: float) -> None:
    """Serve one leader until its STOP. The process ends when the leader is lost.

    Args:
        host: address of the leader.
        port: its port.
        rank: number of this rank.
        local: its number on this machine.
        seconds: time for the connection.

    Raises:
        StartRefusedError: the leader does not start; the text is its error.
        RankLostError: the leader has lost another rank before the first step.
    """
    # Before the connection: the import takes seconds, and no heartbeat would be sent in them.
    from r1_runtime.backends.parallel.rank import load_rank, rank_store

    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    link = Link(connect(host, port, seconds), messages.put, lambda cause: _leader_lost(rank, cause))
    try:
        link.send(MessageKind.HELLO, str(rank).encode())
        message = _next(messages)
        if message.kind is MessageKind.STOP:
            return
        assignment = Assignment.decode(message.payload)
        store = rank_store(host, assignment.store_port, assignment.layout.ranks, leader=False)
        loaded = load_rank(assignment, rank, local, store)
        link.send(MessageKind.LOADED)
        while (message := _next(messages)).kind is not MessageKind.STOP:
            if message.kind is MessageKind.STEP:
                loaded.backend.compute(decode_plan(message.payload))
            elif message.kind is MessageKind.THREADS:
                _set_threads(int(message.text))
        loaded.communication.close()
    except RuntimeFault:
        raise
    except Exception as error:
        # A failed exchange usually has its cause in another rank, which is reported first.
        time.sleep(_CAUSE_SECONDS)
        with suppress(OSError):
            link.send(MessageKind.FAILED, f"{type(error).__name__}: {error}".encode())
        raise
    finally:
        link.close()


def _next(messages: queue.SimpleQueue[Message]) -> Message:
    """The next message of the leader; its error is raised."""
    message = messages.get()
    if message.kind is MessageKind.REFUSED:
        raise StartRefusedError(f"rank 0 does not start: {message.text}")
    if message.kind is MessageKind.FAILED:
        raise RankLostError(message.text)
    return message


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _leader_lost(rank: int, cause: str) -> None:
    """End the process: its main thread may wait for a rank that does not exist any more."""
    _log.error("Rank %d ends: the leader is lost: %s", rank, cause)
    logging.shutdown()
    os._exit(1)


def ignore_signals() -> None:
    """Leave SIGTERM and SIGINT to the leader, which drains and then stops this rank."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leader", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--local", type=int, required=True)
    parser.add_argument("--connect-seconds", type=float, default=0.0)
    given = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    ignore_signals()
    try:
        run_worker(given.leader, given.port, given.rank, given.local, given.connect_seconds)
    except RuntimeFault as error:
        _log.error("Rank %d ends: %s", given.rank, error)
        return 2 if isinstance(error, StartRefusedError) else 1
    except Exception:  # noqa: BLE001  (any failure ends this rank)
        _log.exception("Rank %d has failed", given.rank)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
