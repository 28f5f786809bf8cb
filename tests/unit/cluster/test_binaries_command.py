"""`python -m r1_cluster.programs.binaries` builds what is missing; it once imported itself and did nothing."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_command_fails_with_a_message_when_a_build_is_impossible(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "bin" / "go"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho go version go1.1 none/none\n")
    broken.chmod(0o755)
    environment = os.environ | {
        "PATH": str(broken.parent),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("KUBEBUILDER_ASSETS", None)
    done = subprocess.run(
        [sys.executable, "-m", "r1_cluster.programs.binaries"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is needed" in done.stderr
    assert "go1.1" in done.stderr
