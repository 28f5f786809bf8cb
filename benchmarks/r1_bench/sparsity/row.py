"""One row of the benchmark's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_runtime.quality.timing import TimeRatio
from r1_runtime.tuning.measurement import Measurement


@dataclass(frozen=True, slots=True)
class SparsityRow:
    """What one technique costs and saves.

    Attributes:
        name: technique, and what was measured where that is not the model as a whole.
        claim: what the articles claim.
        switch: command line options.
        verdict: one phrase with the figures of the limits that it misses.
        missed: the limits that it misses; empty when it keeps all.
        loss: percent of perplexity lost; None where it was not measured.
        interval: 95 % interval of the loss.
        retrieval: share of the dense model's retrieval that is left.
        same_text: share of greedy tokens before the first difference.
        bytes_ratio: bytes read per token, as a share of dense.
        decode_ratio: CPU time per output token, as a share of the baseline.
        prefill_ratio: CPU time per prompt token, as a share of the baseline.
        details: all figures, for the JSON file.
    """

    name: str
    claim: str
    switch: str
    verdict: str
    missed: tuple[str, ...] = ()
    loss: float | None = None
    interval: tuple[float, float] | None = None
    retrieval: float | None = None
    same_text: float | None = None
    bytes_ratio: float | None = None
    decode_ratio: float | None = None
    prefill_ratio: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def row_of(measured: Measurement) -> SparsityRow:
    """The row of a technique of `r1_runtime.tuning`."""
    loss, retrieval = measured.loss, measured.difference("retrieval")
    greedy = measured.difference("same greedy text")
    technique = measured.technique
    return SparsityRow(
        name=technique.name,
        claim=technique.claim,
        switch=technique.switch(),
        verdict=measured.verdict(),
        missed=tuple(measured.missed()),
        loss=None if loss is None else loss.change,
        interval=None if loss is None else (loss.low, loss.high),
        retrieval=None if retrieval is None else retrieval.retained,
        same_text=measured.equal_texts if greedy is None else greedy.value,
        bytes_ratio=measured.bytes_ratio,
        decode_ratio=_median(measured.decode),
        prefill_ratio=_median(measured.prefill),
        details=measured.to_json(),
    )


def _median(ratio: TimeRatio | None) -> float | None:
    return None if ratio is None else ratio.median
