"""Import graph of `r1_operator.plan`: no cycle and at most seven levels."""

from __future__ import annotations

import grimp

ROOT = "r1_operator.plan"
MOST_LEVELS = 7


def test_plan_has_no_import_cycle_and_at_most_seven_levels() -> None:
    graph = grimp.build_graph("r1_operator", cache_dir=None)
    modules = {name for name in graph.modules if name.startswith(ROOT)}
    levels: dict[str, int] = {}

    def level(module: str, path: tuple[str, ...] = ()) -> int:
        assert module not in path, f"import cycle: {' -> '.join((*path, module))}"
        if module not in levels:
            imported = graph.find_modules_directly_imported_by(module) & modules
            levels[module] = 1 + max((level(one, (*path, module)) for one in imported), default=0)
        return levels[module]

    deepest = max(modules, key=level)
    assert level(deepest) <= MOST_LEVELS, f"{deepest} is on level {level(deepest)}"
