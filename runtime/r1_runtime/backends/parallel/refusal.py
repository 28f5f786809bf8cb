"""A pod that cannot start ends the other pods of its group, with its own message.

All pods run the same command, but each has its own memory, GPUs and ports. Without this, the others
would wait for ten minutes for a rank that will not come.
"""

from __future__ import annotations

import logging
import socket
import time
from contextlib import closing, suppress

from r1_common import listen
from r1_runtime.backends.parallel.group import LEADER_PORT, RankGroup
from r1_runtime.backends.parallel.link import (
    Message,
    MessageKind,
    connect,
    read_message,
    write_message,
)
from r1_runtime.errors import RuntimeFault

REFUSAL_SECONDS = (
    120.0  # pods start at about the same time, but importing torch takes up to a minute
)
_MESSAGE_SECONDS = 5.0
_POLL_SECONDS = 0.2
_log = logging.getLogger("r1_runtime")


def refuse_start(group: RankGroup, error: RuntimeFault, seconds: float = REFUSAL_SECONDS) -> None:
    """Tell the other pods of a group why this one has ended; nothing for a single pod.

    Pod 0 tells one rank of every other pod, which ends its pod. Another pod tells pod 0, which tells the others.

    Args:
        group: of this process.
        error: the cause.
        seconds: time for the others to connect, or for pod 0 to listen.
    """
    if group.pods == 1:
        return
    text = f"{type(error).__name__}: {error}"
    _log.info("Ending the other pods of the group, within %g s", seconds)
    try:
        if group.pod:
            _tell_leader(group, text, seconds)
        else:
            _tell_pods(group, text, seconds)
    except OSError as failure:
        _log.warning("The other pods of the group are not informed: %s", failure)


def _tell_leader(group: RankGroup, text: str, seconds: float) -> None:
    with closing(connect(group.leader, LEADER_PORT, seconds)) as connection:
        connection.settimeout(_MESSAGE_SECONDS)
        write_message(connection, Message(MessageKind.HELLO, str(group.local_ranks.start).encode()))
        write_message(connection, Message(MessageKind.FAILED, text.encode()))
        _await_end(connection)


def _tell_pods(group: RankGroup, text: str, seconds: float) -> None:
    missing = set(range(1, group.pods))
    listeners = listen.bind("", LEADER_PORT)
    deadline = time.monotonic() + seconds
    try:
        for each in listeners:
            each.listen()
            each.settimeout(_POLL_SECONDS / len(listeners))
        while missing and time.monotonic() < deadline:
            for each in listeners:
                with suppress(OSError), closing(each.accept()[0]) as connection:
                    connection.settimeout(_MESSAGE_SECONDS)
                    missing.discard(_refuse(connection, text) // len(group.local_ranks))
    finally:
        for each in listeners:
            each.close()


def _refuse(connection: socket.socket, text: str) -> int:
    """Send the refusal to a rank that has connected; its number, or -1 for another client."""
    message = read_message(connection)
    if message.kind is not MessageKind.HELLO or not message.text.isdecimal():
        return -1
    write_message(connection, Message(MessageKind.REFUSED, text.encode()))
    _await_end(connection)
    return int(message.text)


def _await_end(connection: socket.socket) -> None:
    """Wait until the other end has closed: an earlier close could discard what was sent."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
