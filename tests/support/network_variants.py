"""Prefixes that run a command in an IPv6-only network or with a kernel without IPv6.

The IPv6-only network is a network namespace whose loopback device has no IPv4 address. The kernel
without IPv6 is a seccomp filter under which `socket(AF_INET6)` fails with EAFNOSUPPORT, as with
`ipv6.disable=1`.

`python tests/support/network_variants.py answers SECONDS URL... -- COMMAND...` starts the command and
prints, as JSON, which URLs respond within SECONDS.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ONE_LOOPBACK = (
    "ip link set lo up && ip -4 addr flush dev lo && ip -6 addr show dev lo | grep -q ::1 "
    '&& exec "$@"'
)
IPV6_ALONE = ("unshare", "--net", "sh", "-c", ONE_LOOPBACK, "sh")
NO_IPV6 = (sys.executable, __file__, "without-ipv6")
PLAIN: tuple[str, ...] = ()

_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}


def unavailable(prefix: tuple[str, ...]) -> str | None:
    """The reason for which commands with this prefix cannot run here, or None."""
    if prefix is PLAIN:
        return None if _has_ipv6() else "this machine has no IPv6 loopback address"
    if prefix is IPV6_ALONE and not (shutil.which("unshare") and shutil.which("ip")):
        return "unshare and ip are not installed"
    trial = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    return None if trial.returncode == 0 else f"not permitted here: {trial.stderr.strip()}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def refuse_ipv6() -> None:
    """Make `socket(AF_INET6)` fail in this process and its children."""

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, leave = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.EAFNOSUPPORT, 0x7FFF0000
    program = b"".join(
        (
            step(load, 0, 0, 0),  # the number of the system call
            step(equal, 0, 3, _SOCKET_CALL[platform.machine()]),
            step(load, 0, 0, 16),  # its first argument
            step(equal, 0, 1, socket.AF_INET6),
            step(leave, 0, 0, refuse),
            step(leave, 0, 0, allow),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(seccomp, by_filter, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl refused the seccomp filter")


def _answers(seconds: float, urls: list[str], command: list[str]) -> dict[str, bool]:
    responded = dict.fromkeys(urls, False)
    end = time.monotonic() + seconds
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        while time.monotonic() < end and not all(responded.values()) and process.poll() is None:
            time.sleep(0.2)
            for url in [url for url, done in responded.items() if not done]:
                with contextlib.suppress(OSError):
                    _ask(url)
                    responded[url] = True
    finally:
        process.kill()
        process.wait()
    return responded


def _ask(url: str) -> None:
    """Return after a response: any HTTP status, or for `tcp://` a connection."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "tcp":
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5).close()
        return
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=5).close()
    except urllib.error.HTTPError as answer:
        answer.close()


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "without-ipv6":
        refuse_ipv6()
        raise SystemExit(subprocess.call(rest))
    split = rest.index("--")
    print(json.dumps(_answers(float(rest[0]), rest[1:split], rest[split + 1 :])))
