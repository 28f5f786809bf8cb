"""One cgroup per cluster, named after it, in every hierarchy: who is in it belongs to us.

Pods live under `/r1-<name>/kubepods` (the kubelet's cgroupRoot); the node's own processes under
`/r1-<name>/host` of one hierarchy, by which `down` finds them even when the state folder is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from r1_cluster.errors import NotReady

ROOT = Path("/sys/fs/cgroup")
UNIFIED = ("cpuset", "cpu", "memory", "pids")  # what the kubelet wants of cgroup v2


def is_unified() -> bool:
    """Return whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Return the root folder of each cgroup hierarchy that has controllers."""
    if is_unified():
        return [ROOT]
    return [
        folder
        for folder in sorted(ROOT.iterdir())
        if not folder.is_symlink() and (folder / "cgroup.procs").exists()
    ]


def process_hierarchy() -> Path:
    """Return the hierarchy in which the node's own processes are kept together."""
    return ROOT if is_unified() else ROOT / "pids"


def create(cgroup: str) -> Path:
    """Create cgroup `/<cgroup>` in every hierarchy; return the folder for the node's processes."""
    for root in hierarchies():
        own = root / cgroup
        if is_unified():
            _delegate(root)
            own.mkdir(exist_ok=True)
            _delegate(own)
        else:
            own.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty sets take no process
                if (own / setting).exists():
                    (own / setting).write_text((root / setting).read_text())
    host = process_hierarchy() / cgroup / "host"
    host.mkdir(exist_ok=True)
    return host


def _delegate(folder: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in UNIFIED)
    (folder / "cgroup.subtree_control").write_text(wanted)


def folders(cgroup: str) -> list[Path]:
    """Return every folder of `/<cgroup>` in all hierarchies, children before parents."""
    found: list[Path] = []
    for root in hierarchies():
        own = root / cgroup
        if own.is_dir():
            found += [Path(folder) for folder, _, _ in os.walk(own, topdown=False)]
    return found


def processes(cgroup: str) -> set[int]:
    """Return the pids in `/<cgroup>` and below, over all hierarchies."""
    found: set[int] = set()
    for folder in folders(cgroup):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    return found


def kill_and_remove(cgroup: str, seconds: float = 30.0) -> None:
    """SIGKILL the processes of `/<cgroup>` and remove it. Raises NotReady if a process stays."""
    deadline = time.monotonic() + seconds
    while remaining := folders(cgroup):
        for pid in processes(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in remaining:
            with contextlib.suppress(OSError):  # busy until the kernel has reaped the last one
                folder.rmdir()
        if not folders(cgroup):
            return
        if time.monotonic() > deadline:
            raise NotReady(
                f"cgroup {cgroup} still has processes {sorted(processes(cgroup))} that "
                "SIGKILL does not end. Inspect them with ps, then run down again."
            )
        time.sleep(0.05)
