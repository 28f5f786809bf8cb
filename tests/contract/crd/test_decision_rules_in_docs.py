"""docs/scaling.md has the rules of a decision under the names that `r1 explain` shows."""

import re
from pathlib import Path

from r1_operator.plan.scaling.limiters import LIMITERS
from r1_operator.plan.scaling.reasons import DecisionReason

PAGE = (Path(__file__).parents[3] / "docs/scaling.md").read_text()


def rows() -> list[list[str]]:
    section = PAGE.split("## Limiters", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_rules_of_the_page_are_the_limiters_in_their_order() -> None:
    assert [row[0] for row in rows()] == [name for name, _ in LIMITERS]


def test_the_reasons_of_the_page_exist() -> None:
    known = {reason.value for reason in DecisionReason}
    shown = {name for row in rows() for name in re.findall(r"`(\w+)`", row[2])}
    assert shown <= known
    assert {"Stabilized", "RecentPeak", "RateLimited", "InsufficientCapacity"} <= shown
