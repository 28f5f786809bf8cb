"""A conversation with a program of ours that runs in an owner's environment: JSON, a line each.

The programs lie in `programs/`; none imports anything of ours, all answer each line that they
read with one line, and tell people on stderr what they are at.
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
    """A running program that takes questions one by one."""

    def __init__(self, owner: ReferenceProgram, process: subprocess.Popen[str]) -> None:
        self._owner = owner
        self._process = process

    def ask(self, question: Request) -> Response:
        """Return the program's answer; raises NotToBeHad when it ended instead."""
        into, out = _pipes(self._process)
        try:
            into.write(json.dumps(question, allow_nan=False) + "\n")
            into.flush()
            line = out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NotInstalled(
                f"{self._owner.name} does not run here: its program ended with "
                f"{self._process.wait()} (what it said stands above)"
            )
        answer: Response = json.loads(line)
        return answer


@contextmanager
def reference_process(
    owner: ReferenceProgram, python: Path, program: str
) -> Iterator[ReferenceProcess]:
    """Start `programs/PROGRAM.py` with an owner's interpreter; it ends with the block."""
    path = Path(__file__).parent / "programs" / f"{program}.py"
    process = subprocess.Popen(
        # -I: neither this folder nor PYTHONPATH may lend it a module of ours.
        [str(python), "-I", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield ReferenceProcess(owner, process)
    finally:
        into, out = _pipes(process)
        into.close()
        process.wait()
        out.close()


def ask_all(
    owner: ReferenceProgram, python: Path, program: str, questions: Sequence[Request]
) -> Sequence[Response]:
    """Return the answers to all questions, in order."""
    with reference_process(owner, python, program) as talk:
        return [talk.ask(question) for question in questions]


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the program was started without pipes")
    return process.stdin, process.stdout
