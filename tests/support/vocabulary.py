"""Words that the glossary replaced, and where they still occur.

Usage: python tests/support/vocabulary.py [--shrink | --reset]
Without an option it prints every finding. `--shrink` lowers the counts of the allow-list to what is
found, `--reset` writes it anew (for files that have moved).
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ROOT / "tests/contract/layout/vocabulary_allowed.json"
PRODUCT = (
    "common",
    "operator",
    "gateway",
    "forecasting",
    "runtime",
    "tools",
    "evaluation",
    "demo",
    "benchmarks",
)

NAMES = re.findall(
    r"\S+",
    """
NoRoom Asleep WakeUp NoReplicaServes NotDecided ChildRefused EngineArgumentsRefused PodNotMade
JobRefused VerdictFound NoVerdict ForecastUnproved BacktestFor BacktestAgainst
BacktestOfAnother OnlyOursKeepsTheObjective Dearer R1NobodyLeads R1NeedsMoreThanItMayHave
R1WatchesMissEvents R1PromiseMissed R1ReconcilesFail R1RequestsRefused R1ForecastShardSilent
R1GatewaySilent replicasWorth heldAtPerReplica highestNeed seatsHeldBack heldSeconds
r1_gateway_seats_held_back r1_gateway_seats_advised r1_operator_seats_held_back
r1_operator_leading r1_operator_forecast_planned r1_operator_resync_repairs
r1_forecast_subjects deepseek.ai/tried deepseek.ai/elects as-written r1_board r1_owners r1_pool
patienceSeconds AtMin AtMax AwaitingIdle SeatsLeave hour-echo
""",
)
"""API names that were replaced."""

WORDS = r"""
holdback|held back|hold back|vouch(es|ed|ing)?|promis(e|es|ed)|patien(ce|t)|believ(e|es|ed)|foretold|
foresee(s|n)?|foresight|dear(er|est)?|reckon(s|ed|ing)?|stanzas?|allowance|anticipat\w*|advice|
advis(e|es|ed)|tally|doors?|nobody|somebody|whoever|whom|told|said|asked|seen|kept|held(?!-out)|worth|odd|
spells?|herd|newcomers?|judgement|lived|played
""".replace("\n", "")
"""Private dialect in strings that people read."""

MODULES = re.findall(
    r"\S+",
    """
holdback advice tally door doors courses foresight anticipation allowance needs urgency
durations room vouch promise promised promises patience lanes past kept followed judgement
subject subjects board owners world mirror mirrors views intake resync fights exposition
statuses asking proof course seen news tried told said asked counterfactual evidence
""",
)
"""Parts of module names that were replaced."""

TEST_NAME = re.compile(r"test_(and|but|nor|neither|it|what|who)(_|$)")

_REPLACED = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, NAMES))}|(?i:{WORDS}))(?!\w)")


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match; files that are not added yet count too."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()})


def name_of(path: Path) -> str:
    """Return the path from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string constant that is not a docstring."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


def replaced_in(text: str) -> list[str]:
    """Return the replaced words in a text that people read."""
    return [match.group(0) for match in _REPLACED.finditer(text)]


@cache
def findings() -> dict[str, dict[str, list[str]]]:
    """Return what still occurs: kind -> file -> findings."""
    by_kind: dict[str, dict[str, list[str]]] = {
        kind: defaultdict(list) for kind in ("strings", "chart", "modules", "test names")
    }
    for path in tracked(*(f"{root}/*.py" for root in PRODUCT)):
        for line, text in strings(path):
            by_kind["strings"][name_of(path)] += [f"{line}: {word}" for word in replaced_in(text)]
    for path in tracked("helm/*", "crds/*"):
        if path.suffix in (".yaml", ".yml", ".tpl", ".txt", ".json", ".md"):
            for number, text in enumerate(path.read_text().splitlines(), 1):
                by_kind["chart"][name_of(path)] += [
                    f"{number}: {word}" for word in replaced_in(text)
                ]
    for path in tracked("*.py"):
        parts = [part for part in path.stem.split("_") if part in MODULES]
        by_kind["modules"][name_of(path)] += parts
    for path in tracked("tests/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if TEST_NAME.match(node.name):
                by_kind["test names"][name_of(path)].append(node.name)
    return {
        kind: {f: those for f, those in files.items() if those} for kind, files in by_kind.items()
    }


def classes() -> dict[str, dict[str, list[str]]]:
    """Return the public classes of the product: name -> package -> modules."""
    modules: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in tracked(*(f"{root}/*.py" for root in PRODUCT)):
        parts = path.relative_to(ROOT).parts
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name][parts[1]].append(name_of(path))
    return modules


def allowed() -> dict[str, dict[str, int]]:
    """Return the allow-list: kind -> file -> count."""
    content: dict[str, dict[str, int]] = json.loads(ALLOWED.read_text())
    return content


def main() -> None:
    """Print the findings, or write the allow-list."""
    by_kind = findings()
    counts = {
        kind: {f: len(those) for f, those in files.items()} for kind, files in by_kind.items()
    }
    if "--shrink" in sys.argv:
        left = {
            kind: {f: min(n, counts[kind].get(f, 0)) for f, n in files.items()}
            for kind, files in allowed().items()
        }
        counts = {kind: {f: n for f, n in files.items() if n} for kind, files in left.items()}
    if "--shrink" in sys.argv or "--reset" in sys.argv:
        ALLOWED.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
    else:
        for kind, those in by_kind.items():
            for file, each in those.items():
                print(f"{kind}: {file}: {', '.join(each)}")
    for kind, numbers in counts.items():
        print(f"{kind}: {sum(numbers.values())} in {len(numbers)} files", file=sys.stderr)


if __name__ == "__main__":
    main()
