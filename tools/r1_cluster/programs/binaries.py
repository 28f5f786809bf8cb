"""Builds of the pinned programs, once per machine, into a cache keyed by the pins.

A finished program is renamed into place, so a program in the cache is complete. A lock lets one
process build at a time; the second one waits and finds the programs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import BuildFailed, ClusterError, MissingTool
from r1_cluster.programs import pins
from r1_cluster.programs.build_progress import BuildProgress, Report
from r1_common.cache_folder import cache_root
from r1_common.file_lock import exclusive

MINIMUM_GO = (1, 25)
KWOK_STAGES = "kwok-stages.yaml"

PROGRAM_SECONDS = 660 / len(pins.ALL_BINARIES)
"""Expected time of a first build: all take 7 to 15 min on 2 cores with empty Go caches."""


def to_stderr(line: str) -> None:
    """Report progress to a person; stdout stays free for what a command prints."""
    print(line, file=sys.stderr, flush=True)


def tools_folder() -> Path:
    """Return the folder of the pinning go.mod. Raises ClusterError outside a clone."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "go.mod").is_file():
        raise ClusterError(
            f"No go.mod in {folder}. Run r1-cluster from a clone of the project "
            "(pip install -e .), whose tools/go.mod pins the cluster's programs."
        )
    return folder


def binaries_folder() -> Path:
    """Return the cache folder of the pinned set, whether or not it is built."""
    return cache_root() / "bin" / pins.cache_key(tools_folder())


def ensure_binaries(
    names: Iterable[str] = pins.ALL_BINARIES, report: Report = to_stderr
) -> dict[str, Path]:
    """Return the path of each named program, building those that are missing.

    KUBEBUILDER_ASSETS, when set, gives kube-apiserver, etcd and kubectl.
    Raises MissingTool without a Go that is new enough, BuildFailed when a build fails.
    """
    found: dict[str, Path] = {}
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folder = binaries_folder()
    for name in names:
        if assets and name in pins.APISERVER_SET:
            found[name] = _asset(Path(assets), name)
        else:
            found[name] = folder / name
    missing = [name for name, path in found.items() if not path.is_file()]
    if missing:
        waiting = f"Waiting: another process builds the cluster's programs into {folder}."
        with exclusive(folder.parent / f"{folder.name}.lock", lambda: report(waiting)):
            still = [name for name in missing if not (folder / name).is_file()]
            if still:
                _build(still, folder, report)
    if "kwok" in found:
        _write_kwok_stages(folder)
    return found


def _asset(assets: Path, name: str) -> Path:
    path = assets / name
    if not path.is_file():
        raise MissingTool(
            f"KUBEBUILDER_ASSETS={assets} has no {name}. Unset the variable to use the programs "
            "pinned in tools/go.mod, or set it to a folder with "
            f"{', '.join(pins.APISERVER_SET)}."
        )
    return path


def _build(names: list[str], folder: Path, report: Report) -> None:
    go = go_command()
    folder.mkdir(parents=True, exist_ok=True)
    report(f"Building {len(names)} programs into {folder}, once per machine and set of pins.")
    # A folder beside the target: the move into place is then a rename, atomic.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as scratch:
        times = cache_root() / "build-times.json"
        progress = BuildProgress("program", names, times, PROGRAM_SECONDS, report)
        for name in names:
            with progress.step(name):
                built = _build_one(go, name, Path(scratch))
                built.rename(folder / name)


def _build_one(go: str, name: str, scratch: Path) -> Path:
    tools = tools_folder()
    # GOBIN refuses a relative path, GOFLAGS of the user may hold -mod=vendor or worse.
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOBIN": str(scratch)}
    target = scratch / name
    for pin in pins.INSTALL_PINS:
        if pin.name == name:
            version = pins.module_version((tools / "go.mod").read_text(), pins.KUBERNETES)
            flags = pins.install_flags(pin.name, version)
            argv = [go, "install", "-ldflags", flags, f"{pin.package}@{pin.version}"]
            _run(argv, name, scratch, environment)
            return target
    flags = "-s -w"
    if name == "etcd":
        package = pins.ETCD
    elif name == "pause":
        package = "./pause"
    else:
        package = f"{pins.KUBERNETES}/cmd/{name}"
        version = pins.module_version((tools / "go.mod").read_text(), pins.KUBERNETES)
        flags = pins.version_flags(version)
    _run([go, "build", "-o", str(target), "-ldflags", flags, package], name, tools, environment)
    return target


def _run(argv: list[str], name: str, cwd: Path, environment: dict[str, str]) -> None:
    failure = (
        f"Building {name} failed. Check that the Go module proxy is reachable "
        "(go env GOPROXY) and that the disk has 5 GB free"
    )
    run(argv, failure, cwd=cwd, environment=environment, error=BuildFailed)


def go_command() -> str:
    """Return the Go to build with. Raises MissingTool without one that is new enough."""
    wanted = ".".join(map(str, MINIMUM_GO))
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise MissingTool(
            f"Go {wanted} or newer is needed to build the local cluster: install it and put it "
            "on PATH, or set R1_USE_KUBECONFIG=1 with KUBECONFIG to use a cluster you have."
        )
    text = run([go, "version"], "Go does not start")
    version = re.search(r"go(\d+)\.(\d+)", text)
    if version is None or (int(version[1]), int(version[2])) < MINIMUM_GO:
        raise MissingTool(f"Go {wanted} or newer is needed, {go} reports {text.strip()!r}.")
    return go


def _write_kwok_stages(folder: Path) -> None:
    """Gather kwok's Stages from its own module: without them it simulates nothing."""
    target = folder / KWOK_STAGES
    if target.is_file():
        return
    pin = next(pin for pin in pins.INSTALL_PINS if pin.name == "kwok")
    cache = run([go_command(), "env", "GOMODCACHE"], "Go does not start").strip()
    stages = Path(cache) / f"sigs.k8s.io/kwok@{pin.version}" / "kustomize/stage"
    files = [
        file
        for part in ("pod/fast", "node/fast", "node/heartbeat-with-lease")
        for file in sorted((stages / part).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
    if not files:
        raise BuildFailed(
            f"kwok's module is not in the Go module cache ({stages}); remove {folder / 'kwok'} "
            "and run again, so that it is downloaded and built anew."
        )
    partial = target.with_suffix(".partial")
    partial.write_text("\n---\n".join(file.read_text() for file in files))
    partial.rename(target)


def main() -> int:
    """Build whatever is missing of the pinned set: `python -m r1_cluster.programs.binaries`."""
    try:
        ensure_binaries()
    except ClusterError as failure:
        print(f"r1-cluster: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
