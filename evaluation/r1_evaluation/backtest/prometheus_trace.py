"""Prometheus history as a rate trace, one bucket per minute."""

from __future__ import annotations

import math
import time

import numpy as np

from r1_evaluation.traces.load import RateTrace
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason
from r1_operator.cli.output import FAILED, NOT_FOUND, CommandFailed

BUCKET_SECONDS = 60.0
_SHORTEST_BUCKETS = 60


def fetch_trace(
    history: DemandHistory, query: str, name: str, seconds: float, until: float | None = None
) -> RateTrace:
    """Read the last `seconds` before `until` (unix seconds; default: now), gaps as None.

    Raises CommandFailed: Prometheus does not respond (1), or its history is too short (3).
    """
    end = math.floor((time.time() if until is None else until) / BUCKET_SECONDS) * BUCKET_SECONDS
    found = history.read(query, BUCKET_SECONDS, end - seconds, end)
    if isinstance(found, ForecastUnavailable):
        missing = found.reason in (UnavailableReason.NO_DATA, UnavailableReason.TOO_LITTLE_HISTORY)
        raise CommandFailed(f"{found.message}\nquery: {query}", NOT_FOUND if missing else FAILED)
    if found.observed < _SHORTEST_BUCKETS:
        raise CommandFailed(
            f"only {found.observed} minutes of history, at least {_SHORTEST_BUCKETS} are required"
            f"\nquery: {query}",
            NOT_FOUND,
        )
    # The query gives a rate per second.
    per_minute = tuple(
        None if math.isnan(value) else value * 60 for value in np.asarray(found.values).tolist()
    )
    return RateTrace(name, BUCKET_SECONDS, per_minute, found.start, source=query)
