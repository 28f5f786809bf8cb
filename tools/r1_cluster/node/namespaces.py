"""The namespaces of a node: started behind `unshare`, found again by cgroup, entered by nsenter."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import NotReady
from r1_cluster.node import cgroups, node_init
from r1_cluster.node.node_processes import Process, node_binds
from r1_cluster.programs.debian import search_path
from r1_cluster.settings import NODE_FOLDERS, ClusterSettings
from r1_cluster.waiting import wait_until

CREATED_FOLDERS = ".created-folders.json"  # beside the clusters: what the last `down` removes


def find_init(cgroup: str) -> int | None:
    """Return the pid of the node's first process as the host sees it, or None."""
    for pid in sorted(cgroups.processes(cgroup)):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            spaces = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            # The last number is the pid in the innermost namespace; containers have three.
            if spaces.split()[1:][-1] == "1" and b"node_init.py" in _command_line(pid):
                return pid
    return None


def find_processes(cgroup: str) -> dict[str, int]:
    """Return program name -> the host's pid, for the node's own processes (not its pods')."""
    members = cgroups.process_hierarchy() / cgroup / "host" / "cgroup.procs"
    if not members.exists():
        return {}
    pids = sorted(int(line) for line in members.read_text().split())
    named = ((program_name(os.fsdecode(_command_line(pid)).split("\0")), pid) for pid in pids)
    return {name: pid for name, pid in named if name}


def program_name(argv: Sequence[str]) -> str:
    """Return what a command line runs: its program, or the module that its Python runs."""
    name = Path(argv[0]).name
    if not name.startswith("python"):
        return name
    modules = [each for each in argv[1:] if each.endswith(".py") or each.startswith("r1_cluster.")]
    return modules[0].removesuffix(".py").split("/")[-1].split(".")[-1] if modules else name


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def enter(init_pid: int, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs `argv` in the node's mount and network namespaces."""
    return ["nsenter", f"--target={init_pid}", "--mount", "--net", "--", *argv]


def start_node(settings: ClusterSettings, processes: Sequence[Process]) -> int:
    """Start the node's first process, which waits for the link; return its pid."""
    folder = settings.folder
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    plan = {
        "binds": node_binds(settings),
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "processes": [asdict(process) for process in processes],
    }
    (folder / "processes.json").write_text(json.dumps(plan, indent=1))
    create_mount_points(folder.parent)
    host_cgroup = cgroups.create(settings.cgroup)
    log = folder / "logs" / "node_init.log"
    # setsid --fork: the node outlives the process that booted it.
    argv = [
        *("setsid", "--fork"),
        *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("--propagation", "slave"),
        *(sys.executable, "-I", "-S", node_init.__file__, str(folder), str(host_cgroup)),
    ]
    with log.open("wb") as output:
        subprocess.run(
            argv,
            check=True,
            cwd="/",
            env={"PATH": search_path(), "HOME": str(Path.home()), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    wait_until(
        (folder / "prepared").exists,
        lambda: (
            "The node's namespaces could not be made; root needs CAP_SYS_ADMIN. "
            f"unshare and node_init say: {log.read_text(errors='replace')[-800:]}"
        ),
        seconds=20,
        interval=0.02,
    )
    pid = find_init(settings.cgroup)
    if pid is None:
        raise NotReady(f"The node's first process ended at once. Its log: {log}")
    return pid


def create_mount_points(clusters: Path) -> None:
    """Make the folders of the host that the node hides, and note which were not there."""
    note = clusters / CREATED_FOLDERS
    created = set(json.loads(note.read_text())) if note.is_file() else set()
    for target in NODE_FOLDERS:
        missing = Path(target)
        chain = []
        while not missing.exists():
            chain.append(str(missing))
            missing = missing.parent
        created |= set(chain)
    note.write_text(json.dumps(sorted(created)))
    for target in NODE_FOLDERS:
        Path(target).mkdir(parents=True, exist_ok=True)


def remove_mount_points(clusters: Path) -> None:
    """Remove the folders that create_mount_points made; only when no node hides them now.

    Removing a folder detaches what other mount namespaces have mounted on it.
    """
    note = clusters / CREATED_FOLDERS
    if not note.is_file():
        return
    for folder in sorted(json.loads(note.read_text()), key=len, reverse=True):
        with contextlib.suppress(OSError):  # someone else put something in: it is theirs now
            Path(folder).rmdir()
    note.unlink()


def wire(settings: ClusterSettings) -> None:
    """Signal the node that its link exists."""
    (settings.folder / "wired").touch()


def ctr(init_pid: int, *arguments: str) -> str:
    """Run containerd's own client in the node, in the namespace of Kubernetes' images."""
    argv = ["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"]
    return run(enter(init_pid, [*argv, *arguments]), f"ctr {' '.join(arguments)} failed")
