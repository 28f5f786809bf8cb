"""Connection between the leader and one other rank: framed messages with heartbeats.

Both ends send a heartbeat every second and read in a thread of their own, so that the end of a
process is noticed at once and a lost machine after a bounded time, also between steps and while a
step computes.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 30.0  # a machine that stalls under load must not end the model
_RETRY_SECONDS = 1.0
_HEADER = struct.Struct("!BI")
_LONGEST_BYTES = 1 << 28  # a plan has a few bytes per token and block


class MessageKind(enum.IntEnum):
    """Kinds of messages."""

    HELLO = 1  # rank to leader: the rank's number
    ASSIGNMENT = 2  # leader to rank: what to load
    LOADED = 3  # rank to leader: ready for steps
    STEP = 4  # leader to rank: a plan
    THREADS = 5  # leader to rank: CPU threads
    STOP = 6  # leader to rank: end without an error
    FAILED = 7  # either way: the error that ends the model, as text
    HEARTBEAT = 8
    REFUSED = 9  # leader to rank: the error for which the model does not start, as text


_LAST = frozenset({MessageKind.STOP, MessageKind.FAILED, MessageKind.REFUSED})
_NUMBERS = frozenset(kind.value for kind in MessageKind)


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: MessageKind
    payload: bytes = b""

    @property
    def text(self) -> str:
        return self.payload.decode(errors="replace")


def read_message(connection: socket.socket) -> Message:
    """The next message.

    Raises:
        OSError: the connection has ended or timed out, or its bytes are no message.
    """
    number, size = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if number not in _NUMBERS or size > _LONGEST_BYTES:
        raise ConnectionError("the bytes are no message")
    return Message(MessageKind(number), _exactly(connection, size))


def write_message(connection: socket.socket, message: Message) -> None:
    connection.sendall(_HEADER.pack(message.kind, len(message.payload)) + message.payload)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the connection was closed")
        parts += part
    return bytes(parts)


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to the leader, which may start later than this rank.

    Raises:
        OSError: the leader is not reachable within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=10)
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)


class Link:
    """One end of a connection.

    Args:
        connection: connected; the link owns it.
        receive: called for each message, in the reading thread.
        lost: called once, in that thread, with the cause, when the other end is gone. Not after
            `close`, and not after STOP, FAILED or REFUSED: they are the last message.
    """

    def __init__(
        self,
        connection: socket.socket,
        receive: Callable[[Message], None],
        lost: Callable[[str], None],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._connection = connection
        self._receive = receive
        self._lost = lost
        self._heartbeat_seconds = heartbeat_seconds
        self._silence_seconds = silence_seconds
        self._sending = threading.Lock()
        self._closed = threading.Event()
        connection.settimeout(silence_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work, name in ((self._read, "rank-reader"), (self._beat, "rank-heartbeat")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def send(self, kind: MessageKind, payload: bytes = b"") -> None:
        """Send a message, from any thread.

        Raises:
            OSError: the other end is gone.
        """
        with self._sending:
            write_message(self._connection, Message(kind, payload))

    def close(self) -> None:
        """Close the connection; the other end reads what was sent before."""
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        while True:
            try:
                message = read_message(self._connection)
            except TimeoutError:
                return self._end(f"no heartbeat for {self._silence_seconds:g} s")
            except OSError as error:
                return self._end(str(error))
            if message.kind is not MessageKind.HEARTBEAT:
                self._receive(message)
            if message.kind in _LAST:
                return self._closed.set()

    def _end(self, cause: str) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._lost(cause)

    def _beat(self) -> None:
        while not self._closed.wait(self._heartbeat_seconds):
            with suppress(OSError):  # the reading thread reports it
                self.send(MessageKind.HEARTBEAT)
