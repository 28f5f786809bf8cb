"""Queue of log lines for a file descriptor: the event loop never waits for the reader.

A pipe that is not read blocks its writer.  So a thread writes from a bounded queue; lines beyond the
bound are dropped and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading

QUEUED_BYTES = 1 << 20
BATCH_BYTES = 1 << 16
CLOSE_SECONDS = 1.0


class OutputQueue:
    """Lines for one file descriptor, in order."""

    def __init__(self, descriptor: int, limit: int = QUEUED_BYTES) -> None:
        self.dropped = 0
        """Lines that were dropped: the queue was full, or the write failed."""
        self._descriptor = descriptor
        self._limit = limit
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._put_bytes = 0
        self._written_bytes = 0
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Queue a line (with its line feed); returns at once."""
        if self._put_bytes - self._written_bytes + len(line) > self._limit:
            self.dropped += 1
            return
        if self._thread is None:
            # A daemon: a pipe that is never read must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="output", daemon=True)
            self._thread.start()
        self._put_bytes += len(line)
        self._lines.put(line)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until the queue is written, at most ``seconds``."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._lines.put(None)
            thread.join(seconds)

    def _run(self) -> None:
        last = False
        while not last:
            batch: list[bytes] = []
            size = 0
            line = self._lines.get()
            while True:
                if line is None:
                    last = True
                    break
                batch.append(line)
                size += len(line)
                if size >= BATCH_BYTES or self._lines.empty():
                    break
                line = self._lines.get()
            if not _write_all(self._descriptor, b"".join(batch)):
                self.dropped += len(batch)
            self._written_bytes += size


class QueuedLogHandler(logging.Handler):
    """A logging handler that formats at once and writes through an :class:`OutputQueue`."""

    def __init__(self, output: OutputQueue) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a record with wrong arguments
            self._output.dropped += 1
            return
        self._output.write(text.encode("utf-8", "backslashreplace") + b"\n")


def _write_all(descriptor: int, data: bytes) -> bool:
    """Write all bytes; False when the reader has closed."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # another process made the descriptor non-blocking
            select.select([], [descriptor], [], 1.0)
        except OSError:
            return False
    return True
