"""SIGTERM during the imports ends a process.

In a container these programs are process 1, and the kernel does not deliver signals without a handler to
process 1. Without one, a pod that is deleted in its first second waits for its whole grace period. The
test therefore requires an exit by our handler (code 0, not "killed by 15").
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
"""A library that each program imports, and the arguments of the program."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_sigterm_during_imports_ends_the_process(program: str, tmp_path: Path) -> None:
    library, arguments = PROGRAMS[program]
    slow = tmp_path / f"{library}.py"
    # Short sleeps: a signal just before a long sleep would be handled after it.
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
