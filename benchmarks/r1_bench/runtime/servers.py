"""Server processes of both engines, pinned to the same processors, and their CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    """A running server with the OpenAI API."""

    name: str
    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of all threads of the process so far."""
        tasks = Path(f"/proc/{self.pid}/task")
        values = [(task / "schedstat").read_text().split()[0] for task in tasks.iterdir()]
        return sum(map(int, values)) / 1e9

    def anonymous_bytes(self) -> int:
        """Resident memory without pages of files, which the kernel can drop."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def ours(path: str, threads: int, port: int, arguments: Sequence[str] = ()) -> list[str]:
    """Command of the runtime."""
    return [
        *(sys.executable, "-m", "r1_runtime.serve", "--model-path", path),
        *("--served-model-name", "model", "--host", "127.0.0.1", "--port", str(port)),
        *("--threads", str(threads), "--max-num-seqs", "8", *arguments),
    ]


def llama_cpp(
    path: str, threads: int, port: int, context: int = 32768, slots: int = 8
) -> list[str]:
    """Command of llama.cpp's server, from the package xllamacpp; all slots share the context."""
    return [
        *(sys.executable, "-m", "r1_bench.runtime.llama_server"),
        *(path, str(threads), str(port), str(context), str(slots)),
    ]


@contextmanager
def running(name: str, command: Sequence[str], port: int, cpus: set[int]) -> Iterator[Server]:
    """Start a server on these processors, wait until it is ready, and end it afterwards."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),  # noqa: PLW1509  (one thread here)
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url)
        yield Server(name, url, process.pid)
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server at {url} ended with code {process.returncode}")
        for path in ("/ready", "/health"):
            try:
                with urllib.request.urlopen(url + path, timeout=5) as response:  # noqa: S310
                    if response.status == 200:
                        return
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    break  # it has this path and is not ready
            except OSError:
                break
        time.sleep(0.1)
    raise SystemExit(f"the server at {url} is not ready after {_START_SECONDS} s")
