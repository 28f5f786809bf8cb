"""OpenMetrics backfill of the history: the gateway's request counter, as Prometheus would have it.

There is one counter per resource and class. Arrivals are drawn from the same process as the live
ones, with its noise: the forecaster's bands would be too narrow on a smooth history. A gap of the
trace has no samples, and the counter continues after it, as after an outage of the scraper.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from r1_demo.load.arrivals import Curve, Share, poisson_times

METRIC = "r1_gateway_requests_offered"
DEFAULT_CLASS = "Q2"


def openmetrics(
    history: Curve,
    shares: Sequence[Share],
    namespace: str,
    ends_at: float,
    every: float,
    seed: int,
) -> Iterator[str]:
    """Yield the lines of a backfill whose last sample lies at `ends_at` (unix seconds).

    A sample is written `every` seconds.
    """
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    starts_at = ends_at - history.seconds
    samples = list(poisson_times(history, rng))
    weights = [share.share for share in shares]
    share_indexes = rng.choices(range(len(shares)), weights, k=len(samples))
    yield f"# HELP {METRIC} Requests that arrived at the gateway."
    yield f"# TYPE {METRIC} counter"
    for number, share in enumerate(shares):
        labels = (
            f'inference_namespace="{namespace}",inference="{share.model}",'
            f'class="{share.klass or DEFAULT_CLASS}"'
        )
        own = [
            at
            for at, share_index in zip(samples, share_indexes, strict=True)
            if share_index == number
        ]
        count = 0
        for index in range(int(history.seconds / every) + 1):
            at = index * every
            while count < len(own) and own[count] <= at:
                count += 1
            if history.measured[min(int(at / history.step), len(history.measured) - 1)]:
                yield f"{METRIC}_total{{{labels}}} {count} {starts_at + at:.3f}"
    yield "# EOF"
