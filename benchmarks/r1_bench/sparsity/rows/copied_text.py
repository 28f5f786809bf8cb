"""Speculation where it is meant to help: the model copies a text that stands in its prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from r1_bench.sparsity.row import SparsityRow, row_of
from r1_runtime.tuning.measure import MeasureInput, measure
from r1_runtime.tuning.registry import named_techniques
from r1_runtime.tuning.technique import Workload


def rows(given: MeasureInput) -> Iterator[SparsityRow]:
    """n-gram speculation on texts that occur twice."""
    [technique] = named_techniques(["n-gram speculation"])
    copying = dataclasses.replace(
        technique, name="n-gram speculation, copied text", workload=Workload.COPYING
    )
    yield row_of(measure(given, copying))
