"""Every technique that `r1 tune` knows, on the benchmark's model."""

from __future__ import annotations

from collections.abc import Iterator

from r1_bench.sparsity.row import SparsityRow, row_of
from r1_runtime.tuning.measure import MeasureInput, measure_all
from r1_runtime.tuning.registry import all_techniques


def rows(given: MeasureInput) -> Iterator[SparsityRow]:
    """One row per technique."""
    for measured in measure_all(given, all_techniques()):
        yield row_of(measured)
