"""Build of a program around Knative's own autoscaler: `python -m r1_cluster.programs.knative`.

It is not part of a cluster. A test compares the leaderboard's Knative baseline with it at every
tick, where the program is built, and downloads nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import BuildFailed, ClusterError
from r1_cluster.programs.binaries import go_command, to_stderr, tools_folder
from r1_cluster.programs.build_progress import Report
from r1_cluster.programs.pins import module_version
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
    """Return the path of the program, whether or not it is built."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((source() / name).read_bytes())
    return cache_root() / "reference-programs" / f"knative-{version()}-{digest.hexdigest()[:12]}"


def ensure_program(report: Report = to_stderr) -> Path:
    """Return the program, building it when missing. Raises MissingTool or BuildFailed."""
    target = program()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f"{target.name}.lock"
    with exclusive(lock, lambda: report(f"Waiting: another process builds {target}.")):
        if target.is_file():
            return target
        report(f"Building {target}, once per machine and pin: minutes with empty caches.")
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
