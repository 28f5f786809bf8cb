"""`--help` of every benchmark prints its options and measures nothing."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import r1_bench

FOLDER = Path(r1_bench.__path__[0])


MODULES = [
    file.relative_to(FOLDER.parent).with_suffix("").as_posix().replace("/", ".")
    for file in sorted(FOLDER.rglob("*.py"))
    if 'if __name__ == "__main__"' in file.read_text()
]
COMMANDS = {module.removesuffix(".__main__"): module for module in MODULES}
"""Modules that `python -m` runs, by the name in the command."""


def test_benchmarks_of_the_makefile_have_a_command() -> None:
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    listed = re.search(r"^BENCHES := (.*)$", makefile, re.MULTILINE)
    assert listed is not None
    names = re.findall(r"(?<![$(\w])[a-z][a-z-]+", listed[1].replace("$(if $(R1_TRACES),", " "))
    assert "cluster" in names
    assert {f"r1_bench.{name.replace('-', '_')}" for name in names} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_benchmark_starts_no_process(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"--help starts {arguments}")

    importlib.import_module(COMMANDS[command])
    monkeypatch.delitem(sys.modules, COMMANDS[command])
    monkeypatch.setattr(subprocess, "Popen", refuse)  # after the imports: libraries start ldconfig
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(command, run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {command} ")
