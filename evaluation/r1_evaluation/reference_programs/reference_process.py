"""JSON lines to and from a program that runs in a reference program's environment.

The programs lie in `programs/` and import nothing of this project. Each writes one line per line that
it reads, and its progress to stderr.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from r1_evaluation.reference_programs.environment import NotInstalled, ReferenceProgram

Request = dict[str, Any]
Response = dict[str, Any]


class ReferenceProcess:
    """A running program that handles one request at a time."""

    def __init__(self, program: ReferenceProgram, process: subprocess.Popen[str]) -> None:
        self._program = program
        self._process = process

    def send(self, request: Request) -> Response:
        """Return the program's response; raises NotInstalled when the program has ended."""
        into, out = _pipes(self._process)
        try:
            into.write(json.dumps(request, allow_nan=False) + "\n")
            into.flush()
            line = out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NotInstalled(
                f"{self._program.name} does not run here: its process exited with "
                f"{self._process.wait()} (its output is above)"
            )
        response: Response = json.loads(line)
        return response


@contextmanager
def reference_process(
    program: ReferenceProgram, python: Path, script: str
) -> Iterator[ReferenceProcess]:
    """Start `programs/SCRIPT.py` with the environment's interpreter; it ends with the block."""
    path = Path(__file__).parent / "programs" / f"{script}.py"
    process = subprocess.Popen(
        # -I: no module of this project from this folder or PYTHONPATH.
        [str(python), "-I", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield ReferenceProcess(program, process)
    finally:
        into, out = _pipes(process)
        into.close()
        process.wait()
        out.close()


def ask_all(
    program: ReferenceProgram, python: Path, script: str, requests: Sequence[Request]
) -> Sequence[Response]:
    """Return the responses to all requests, in order."""
    with reference_process(program, python, script) as process:
        return [process.send(request) for request in requests]


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the program was started without pipes")
    return process.stdin, process.stdout
