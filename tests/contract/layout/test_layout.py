"""Layout of the repository: root folders, file lengths, constraints, numbers of decision records."""

import subprocess
import sys

import pytest

from vocabulary import PRODUCT, ROOT, tracked

ROOTS = [*PRODUCT, "tests"]


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


def test_constraints_carry_hashes_and_no_address() -> None:
    files = sorted((ROOT / "constraints").glob("*.txt"))
    images = {"operator", "gateway", "forecasting", "runtime", "backtest"}
    assert {file.stem for file in files} == {"all", *images}
    for file in files:
        text = file.read_text()
        assert "://" not in text, file
        assert "--hash=sha256:" in text, file


def test_every_decision_record_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert numbers, "docs/decisions is empty"
    assert len(numbers) == len(set(numbers))
