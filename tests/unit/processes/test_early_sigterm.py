"""A SIGTERM that comes while a process still imports its libraries ends it.

In a container these programs are process 1, and from that one the kernel keeps every signal that has
no handler: left to the default, a pod deleted in its first second would sit out its grace period.
So what is asked for is not only an end but one by our own handler (exit 0, not "killed by 15").
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = {
    "r1_gateway": ("uvloop", []),
    "r1_forecasting": ("prometheus_api_client", []),
    "r1_operator": ("kopf", ["run"]),
}
"""A library that each imports, and the arguments to start it with."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_sigterm_during_imports_ends_the_process(program: str, tmp_path: Path) -> None:
    library, arguments = PROGRAMS[program]
    slow = tmp_path / f"{library}.py"
    # In slices: a signal just before a long call sleeps would be handled after it.
    slow.write_text(
        "import time\nprint('importing', flush=True)\nfor _ in range(6000): time.sleep(.1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        env={"PYTHONPATH": str(tmp_path), "KUBECONFIG": "/dev/null"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
