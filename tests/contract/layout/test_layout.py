"""Layout of the repository: root folders, file lengths, constraints, numbers of decision records."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from vocabulary import PRODUCT, ROOT, tracked

ROOTS = [*PRODUCT, "tests"]
MOST_MODULES = 14
LARGER_FOLDERS = {
    "runtime": "the runtime is being rebuilt",
}
"""Folders that may hold more modules, with the reason; subfolders included."""


@pytest.mark.parametrize("root", ROOTS)
def test_roots_are_not_packages(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


def test_stdlib_operator_wins_from_the_repository_root() -> None:
    code = "import operator; print(operator.__spec__.origin)"
    origin = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not origin.startswith(str(ROOT))


def test_no_source_file_is_longer_than_600_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("*.py", "*.go")
        if (lines := len(path.read_text().splitlines())) > 600
    }
    assert not long


def test_no_folder_holds_more_than_14_modules() -> None:
    modules = Counter(
        str(path.parent.relative_to(ROOT))
        for root in PRODUCT
        for path in tracked(f"{root}/**/*.py")
        if path.name != "__init__.py"
    )
    assert modules, "no module is tracked"
    large = {
        folder: count
        for folder, count in modules.items()
        if count > MOST_MODULES
        and not any(f"{folder}/".startswith(f"{known}/") for known in LARGER_FOLDERS)
    }
    assert not large, "group the modules of these folders in subfolders by subject"


@pytest.mark.parametrize("folder", LARGER_FOLDERS)
def test_folders_with_an_exception_exist(folder: str) -> None:
    assert (ROOT / folder).is_dir()


def test_constraints_carry_hashes_and_no_address() -> None:
    files = sorted((ROOT / "constraints").glob("*.txt"))
    images = {"operator", "gateway", "forecasting", "runtime", "runtime-cuda", "backtest"}
    clients = {"clients", "clients-no-deps"}
    assert {file.stem for file in files} == {"all", "models", *clients, *images}
    for file in files:
        text = file.read_text()
        assert "://" not in text, file
        assert "--hash=sha256:" in text, file


def test_every_decision_record_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert numbers, "docs/decisions is empty"
    assert len(numbers) == len(set(numbers))


def test_every_benchmark_of_the_makefile_is_a_module() -> None:
    [names] = re.findall(r"^BENCHES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    folder = ROOT / "benchmarks/r1_bench"
    missing = [
        name
        for name in re.sub(r"\$\(if \$\(R1_TRACES\),(.*)\)", r"\1", names).split()
        if not (folder / f"{name.replace('-', '_')}.py").is_file()
        and not (folder / name.replace("-", "_") / "__main__.py").is_file()
    ]
    assert not missing, "make bench-NAME runs python -m r1_bench.NAME"
