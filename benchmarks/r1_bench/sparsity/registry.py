"""The modules that measure rows: every module of `r1_bench.sparsity.rows`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Protocol

from r1_bench.sparsity import rows
from r1_bench.sparsity.row import SparsityRow
from r1_runtime.tuning.measure import MeasureInput


class RowModule(Protocol):
    """A module of `r1_bench.sparsity.rows`."""

    def rows(self, given: MeasureInput) -> Iterator[SparsityRow]:
        """Measure."""


def row_modules() -> dict[str, RowModule]:
    """Every module of `r1_bench.sparsity.rows` by name."""
    names = sorted(each.name for each in pkgutil.iter_modules(rows.__path__))
    return {name: _module(f"{rows.__name__}.{name}") for name in names}


def _module(name: str) -> RowModule:
    module: Any = importlib.import_module(name)
    found: RowModule = module
    return found
