"""Counter samples of a gateway: zeros, except for the fields that a test sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from r1_operator.plan.signals.counter_sample import CounterSample

_SILENT = CounterSample(
    gateway="a",
    started_at=0.0,
    at=1.0,
    received_at=1.0,
    offered_requests=0.0,
    offered_tokens=0.0,
    completed=0.0,
    rejected=0.0,
    in_flight=0.0,
    queued=0.0,
    buffered=0.0,
    oldest_wait_seconds=0.0,
    seats=0.0,
    ready_endpoints=0.0,
)


def silent(**figures: Any) -> CounterSample:
    """A sample of zeros, except for `figures`."""
    return replace(_SILENT, **figures)
