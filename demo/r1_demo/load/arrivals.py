"""Seeded arrivals of a trace: time, resource, class and lengths of each request.

A rate becomes a Poisson process whose rate follows the trace. Recorded requests keep their arrival
times, compressed. Lengths are the trace's, capped for the demo's small model. Load is open-loop: an
arrival does not wait for earlier responses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1_evaluation.traces.load import Quantiles, RateTrace, RequestTrace, bridge, inverse

FEWEST_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Share:
    """The share of all requests for one model and class. None: requests without a class."""

    model: str
    klass: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Caps:
    """Upper bounds of prompt and output length, in tokens."""

    prompt_tokens: int = 64
    output_tokens: int = 16


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """One request to send, `at` seconds after the start of the run."""

    at: float
    model: str
    klass: str | None
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Offered requests per second over the time of a run.

    `rates[i]` holds from `i x step` to `(i + 1) x step` seconds; `measured[i]` is False where
    the trace has a gap and the rate is interpolated.
    """

    step: float
    rates: tuple[float, ...]
    measured: tuple[bool, ...]

    @property
    def seconds(self) -> float:
        """Length of the curve in seconds."""
        return self.step * len(self.rates)

    def at(self, second: float) -> float:
        """Return the rate at a second; beyond the end, the last rate."""
        index = min(max(int(second / self.step), 0), len(self.rates) - 1)
        return self.rates[index]


def curve_of(trace: RateTrace, compression: float, scale: float) -> Curve:
    """Return a trace's rate `compression` times faster, in requests/s of the run.

    `scale` is the run's requests/s for one request/minute of the trace.
    """
    filled = bridge(trace.per_minute)
    return Curve(
        trace.bucket_seconds / compression,
        tuple(rate * scale for rate in filled),
        tuple(rate is not None for rate in trace.per_minute),
    )


def poisson_times(curve: Curve, rng: random.Random) -> Iterator[float]:
    """Yield the arrival times of a Poisson process whose rate follows the curve.

    A unit-rate process rescaled by the rate, which is exact for a piecewise constant rate.
    """
    target = rng.expovariate(1.0)
    passed = 0.0
    for index, rate in enumerate(curve.rates):
        start = index * curve.step
        area = rate * curve.step
        while target <= passed + area and rate > 0:
            yield start + (target - passed) / rate
            target += rng.expovariate(1.0)
        passed += area


def draw(
    curve: Curve,
    shares: Sequence[Share],
    prompt: Quantiles,
    output: Quantiles,
    caps: Caps,
    seed: int,
) -> list[ScheduledRequest]:
    """Return the arrivals of a rate curve, in order of time."""
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    weights = [share.share for share in shares]
    arrivals = []
    for at in poisson_times(curve, rng):
        [share] = rng.choices(shares, weights)
        arrivals.append(
            ScheduledRequest(
                at,
                share.model,
                share.klass,
                _length(inverse(prompt, rng.random()), caps.prompt_tokens),
                _length(inverse(output, rng.random()), caps.output_tokens),
            )
        )
    return arrivals


def replay(
    trace: RequestTrace,
    seconds: float,
    keep_probability: float,
    shares: Sequence[Share],
    caps: Caps,
    seed: int,
) -> list[ScheduledRequest]:
    """Return a request trace's own arrivals within `seconds`; each with probability `keep_probability`."""
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    weights = [share.share for share in shares]
    start, faster = trace.requests[0].at, seconds / trace.seconds
    arrivals = []
    for request in trace.requests:
        if rng.random() >= keep_probability:
            continue
        [share] = rng.choices(shares, weights)
        arrivals.append(
            ScheduledRequest(
                (request.at - start) * faster,
                share.model,
                share.klass,
                _length(request.prompt_tokens, caps.prompt_tokens),
                _length(request.output_tokens, caps.output_tokens),
            )
        )
    return arrivals


def counted(arrivals: Sequence[ScheduledRequest], seconds: float, step: float) -> Curve:
    """Return arrivals as requests per second in buckets of `step` seconds."""
    buckets = [0] * max(1, round(seconds / step))
    for arrival in arrivals:
        buckets[min(int(arrival.at / step), len(buckets) - 1)] += 1
    return Curve(step, tuple(n / step for n in buckets), (True,) * len(buckets))


def _length(tokens: float, most: int) -> int:
    return max(FEWEST_TOKENS, min(round(tokens), most))
