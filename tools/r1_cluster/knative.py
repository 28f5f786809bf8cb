"""Builds a player of Knative's own autoscaler, into the cache: `python -m r1_cluster.knative`.

It is no part of a cluster. The leaderboard's Knative is checked against it, tick by tick, by a test
that runs where the program has been built and downloads nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from r1_cluster.binaries import go_command, to_stderr, tools_folder
from r1_cluster.build_progress import Report
from r1_cluster.commands import run
from r1_cluster.errors import BuildFailed, ClusterError
from r1_cluster.pins import module_version
from r1_common.cache_folder import cache_root
from r1_common.file_lock import exclusive

MODULE = "knative.dev/serving"


def source() -> Path:
    """Return the folder of the program's module."""
    return tools_folder() / "knative"


def version() -> str:
    """Return the version of Knative that is pinned, such as "v0.49.0"."""
    return module_version((source() / "go.mod").read_text(), MODULE)


def program() -> Path:
    """Return where the program lies, whether or not it is built."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((source() / name).read_bytes())
    return cache_root() / "owners" / f"knative-{version()}-{digest.hexdigest()[:12]}"


def ensure_program(report: Report = to_stderr) -> Path:
    """Return the program, built if need be. Raises MissingTool or BuildFailed."""
    target = program()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f"{target.name}.lock"
    with exclusive(lock, lambda: report(f"another process is building {target}: waiting")):
        if target.is_file():
            return target
        report(f"building {target} (once per machine and pin; minutes when nothing is cached)")
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
            built = Path(scratch) / "knative"
            run(
                [go_command(), "build", "-o", str(built), "-ldflags", "-s -w", "."],
                "building Knative's autoscaler failed; check that the Go module proxy is reachable "
                "(go env GOPROXY)",
                cwd=source(),
                environment=environment,
                error=BuildFailed,
            )
            built.rename(target)
    return target


def main() -> int:
    """Build the program if it is missing; its path goes to stdout."""
    try:
        print(ensure_program())
    except ClusterError as failure:
        print(f"r1-cluster: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
