"""Rank 0: starts the other ranks, sends them each step, computes its own part, and samples.

A rank that ends or fails ends the model: the others hold only parts of it. `lost` is then called
once, with the cause, and no later step returns.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from r1_common import listen
from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.group import LEADER_PORT, RankGroup
from r1_runtime.backends.parallel.link import Link, Message, MessageKind, read_message
from r1_runtime.backends.parallel.plan_bytes import encode_plan
from r1_runtime.backends.parallel.processes import end_ranks, ending, start_ranks
from r1_runtime.backends.parallel.rank import LoadedRank, load_rank, rank_store
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.step_plan import StepPlan, StepResult
from r1_runtime.errors import RankLostError

_CONNECT_SECONDS = 600.0
_POLL_SECONDS = 0.2
_HELLO_SECONDS = 10.0
_CAUSE_SECONDS = 2.0
_log = logging.getLogger("r1_runtime")

Lost = Callable[[RankLostError], None]
Processes = dict[int, subprocess.Popen[bytes]]


class Ranks:
    """The connections to the other ranks.

    Args:
        total: ranks of the model, this one included.
        processes: the ranks that this process has started.
        lost: called once when a rank is lost.
    """

    def __init__(self, total: int, processes: Processes, lost: Lost) -> None:
        self._total, self._processes, self._lost = total, processes, lost
        self._links: dict[int, Link] = {}
        self._loaded: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.failure: RankLostError | None = None
        self.failed = threading.Event()

    def accept(self, listeners: list[socket.socket], seconds: float) -> None:
        """Wait until every other rank has connected.

        Raises:
            RankLostError: a started process has ended, or the time is over.
        """
        wanted = set(range(1, self._total))
        deadline = time.monotonic() + seconds
        for each in listeners:
            each.settimeout(_POLL_SECONDS / len(listeners))
        while missing := sorted(wanted - self._links.keys()):
            self._check_processes(missing)
            if self.failure is not None:
                raise self.failure
            if time.monotonic() > deadline:
                raise RankLostError(
                    f"ranks: {missing} of {self._total} have not connected within {seconds:g} s. "
                    "Fix: start all pods of the group, and allow connections between them."
                )
            for each in listeners:
                with suppress(OSError):
                    connection = each.accept()[0]
                    self._adopt(connection, missing)

    def _check_processes(self, missing: list[int]) -> None:
        for rank in missing:
            process = self._processes.get(rank)
            if process is not None and process.poll() is not None:
                raise self._error(rank, "it did not connect")

    def _adopt(self, connection: socket.socket, missing: list[int]) -> None:
        """Keep the connection of a missing rank; close any other."""
        connection.settimeout(_HELLO_SECONDS)
        try:
            message = read_message(connection)
            rank = int(message.text) if message.kind is MessageKind.HELLO else -1
        except (OSError, ValueError):
            rank = -1
        if rank not in missing:
            connection.close()
            return
        self._links[rank] = Link(
            connection,
            lambda message: self._receive(rank, message),
            lambda cause: self._fail(rank, cause),
        )

    def send(self, kind: MessageKind, payload: bytes = b"") -> None:
        """Send a message to every other rank. A rank that is gone is reported by its link."""
        for link in self._links.values():
            with suppress(OSError):
                link.send(kind, payload)

    def wait_until_loaded(self) -> None:
        """Wait until every other rank is ready for steps.

        Raises:
            RankLostError: a rank was lost.
        """
        for _ in self._links:
            if self._loaded.get() is None:
                break
        if self.failure is not None:
            raise self.failure

    def _receive(self, rank: int, message: Message) -> None:
        if message.kind is MessageKind.LOADED:
            self._loaded.put(rank)
        elif message.kind is MessageKind.FAILED:
            self._fail(rank, message.text)

    def _fail(self, rank: int, cause: str) -> None:
        self.fail(self._error(rank, cause))

    def _error(self, rank: int, cause: str) -> RankLostError:
        process = self._processes.get(rank)
        end = None if process is None else ending(process)
        return RankLostError(
            f"ranks: rank {rank} of {self._total} is lost: {cause}"
            f"{'' if end is None else f'; {end}'}. Fix: restart all ranks; the log of rank {rank} has "
            "the cause."
        )

    def fail(self, error: RankLostError) -> None:
        """Report that the model cannot compute any more; only the first call does."""
        with self._lock:
            if self.failure is not None or self._closed:
                return
            self.failure = error
        self.failed.set()
        self._loaded.put(None)
        self._lost(error)

    def close(self, error: RankLostError | None = None) -> None:
        """Stop the other ranks and wait for the processes that were started here.

        Args:
            error: the loss that ends the model; the other ranks end with it.
        """
        with self._lock:
            self._closed = True
        if error is None:
            self.send(MessageKind.STOP)
        else:
            self.send(MessageKind.FAILED, str(error).encode())
        end_ranks(list(self._processes.values()))
        for link in self._links.values():
            link.close()


@dataclass(slots=True)
class ParallelBackend:
    """A model over several ranks, as a `Backend` of rank 0."""

    ranks: Ranks
    own: LoadedRank

    def step(self, plan: StepPlan) -> StepResult:
        """Compute the rows on all ranks, write their cache entries, and sample.

        Raises:
            RankLostError: a rank is lost, or this one has failed within the step.
        """
        if self.ranks.failure is not None:
            raise self.ranks.failure
        self.ranks.send(MessageKind.STEP, encode_plan(plan))
        try:
            output = self.own.backend.compute(plan)
            assert output.logits is not None  # noqa: S101
            logits = output.logits.cpu().numpy()
            hidden = None if output.hidden is None else output.hidden.cpu().numpy()
        except Exception as error:
            # The other ranks have computed or still wait: no later step can be the same on all.
            # A failed exchange usually has its cause in another rank, which is reported first.
            if not self.ranks.failed.wait(_CAUSE_SECONDS):
                cause = f"{type(error).__name__}: {error}"
                self.ranks.fail(RankLostError(f"ranks: rank 0 has failed: {cause}"))
            raise (self.ranks.failure or error) from error
        result = sample_rows(np.ascontiguousarray(logits), plan.sampling)
        return result if hidden is None else replace(result, hidden=hidden)

    def set_threads(self, count: int) -> None:
        """Use `count` CPU threads on each rank from the next step on."""
        import torch

        torch.set_num_threads(count)
        self.ranks.send(MessageKind.THREADS, str(count).encode())

    def release_cache(self) -> None:
        """Not possible: the start refuses sleep mode for several ranks."""
        raise NotImplementedError("ranks: the cache of a model over several ranks stays allocated.")

    def allocate_cache(self) -> None:
        """See `release_cache`."""
        raise NotImplementedError("ranks: the cache of a model over several ranks stays allocated.")

    def close(self) -> None:
        """Stop all ranks."""
        self.ranks.close()
        if self.ranks.failure is None:
            self.own.communication.close()


def start_parallel(group: RankGroup, assignment: Assignment, lost: Lost) -> ParallelBackend:
    """Start or await the other ranks, and load all of them.

    Args:
        group: of this process, which is pod 0.
        assignment: what to load; the port of the store is chosen here.
        lost: called once, from any thread, when a rank is lost.

    Raises:
        RankLostError: a rank did not start or did not load.
    """
    several = group.pods > 1
    listeners = listen.bind("" if several else group.leader, LEADER_PORT if several else 0)
    for each in listeners:
        each.listen()
    if not several:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    local = group.local_ranks
    port = listen.port_of(listeners)
    processes = start_ranks("127.0.0.1", port, local[1:], local.start, wait=False)
    return lead(listeners, processes, assignment, lost)


def lead(
    listeners: list[socket.socket], processes: Processes, assignment: Assignment, lost: Lost
) -> ParallelBackend:
    """Await the other ranks, and load all of them.

    Args:
        listeners: where the ranks connect; closed at the end.
        processes: the ranks that this process has started.
        assignment: see `start_parallel`.
        lost: see `start_parallel`.
    """
    total = assignment.layout.ranks
    ranks = Ranks(total, processes, lost)
    try:
        _log.info("Waiting for %d other ranks", total - 1)
        ranks.accept(listeners, _CONNECT_SECONDS)
        store = rank_store("127.0.0.1", 0, total, leader=True)
        assignment = replace(assignment, store_port=store.port)
        ranks.send(MessageKind.ASSIGNMENT, assignment.encode())
        own = load_rank(assignment, 0, 0, store)
        ranks.wait_until_loaded()
    except RankLostError as error:
        ranks.close(error)
        raise
    except BaseException:
        ranks.close()
        raise
    finally:
        for each in listeners:
            each.close()
    return ParallelBackend(ranks, own)
