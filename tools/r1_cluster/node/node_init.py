"""The first process of a cluster's node: PID 1 of its own pid, mount and network namespaces.

It starts what `processes.json` lists, starts again what ends, and reaps orphans. The kernel
kills everything in the namespace when it dies, and drops every mount, bridge, address and
iptables rule with it: that is how `down` leaves nothing behind, even after a crash.

Run as `python -S node_init.py STATE_FOLDER CGROUP_FOLDER`; standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESTART_SECONDS = 1.0
POLL_SECONDS = 0.05


@dataclass(slots=True)
class NodeService:
    """One process to keep running."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    after: list[str]
    """What must be there before the start: "unix:PATH" or "tcp:ADDRESS:PORT"."""
    log: Path
    pid: int | None = None
    not_before: float = field(default=0.0)


def reachable(place: str) -> bool:
    """Return whether something listens at "unix:PATH" or "tcp:ADDRESS:PORT"."""
    kind, _, where = place.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(where)
        else:
            address, _, port = where.rpartition(":")
            socket.create_connection((address, int(port)), timeout=0.5).close()
    except OSError:
        return False
    return True


def start(service: NodeService) -> None:
    """Start the process with its log as output."""
    with service.log.open("ab") as output:
        process = subprocess.Popen(
            service.argv,
            env=os.environ | service.environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    service.pid = process.pid
    # The loop below reaps every child itself; Popen must not.
    process.returncode = 0


def reap(services: list[NodeService]) -> None:
    """Collect children that ended; ours are started again a second later."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for service in services:
            if service.pid == pid:
                with service.log.open("a") as log:
                    log.write(f"node_init: {service.name} ended with status {status}\n")
                service.pid = None
                service.not_before = time.monotonic() + RESTART_SECONDS


def prepare(state: Path, plan: dict[str, Any]) -> None:
    """Hide the host's folders of a node behind our own, and let packets pass."""
    for target, source in plan["binds"].items():
        Path(source).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", source, target], check=True)
    for name, value in plan["sysctls"].items():
        Path("/proc/sys", *name.split(".")).write_text(value)
    (state / "prepared").touch()


def main() -> None:
    """Run the node until it is killed."""
    state, cgroup = Path(sys.argv[1]), Path(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    (cgroup / "cgroup.procs").write_text("0")
    plan = json.loads((state / "processes.json").read_text())
    prepare(state, plan)
    while not (state / "wired").exists():  # the host is laying the cable
        time.sleep(POLL_SECONDS)
    services = [
        NodeService(
            each["name"],
            each["argv"],
            each["environment"],
            each["after"],
            state / "logs" / f"{each['name']}.log",
        )
        for each in plan["processes"]
    ]
    while True:
        reap(services)
        for service in services:
            due = service.pid is None and time.monotonic() >= service.not_before
            if due and all(reachable(place) for place in service.after):
                start(service)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
