"""The load schedule of a run: history, live part, speed and rates.

A trace of three days or more gives its last day to the run and the days before it to the
forecaster as history. A day of 86,400 s in `duration` seconds runs `86400 / duration` times faster.
The history is compressed by the same factor, so the season that the forecaster learns is as long
as the run's day. The end of the history, the lead-in, is not backfilled but sent live before the
day starts, while the forecaster trains.

A trace of less than three days has too little history: all of it is sent live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r1_demo.load.arrivals import (
    Caps,
    Curve,
    ScheduledRequest,
    Share,
    counted,
    curve_of,
    draw,
    replay,
)
from r1_evaluation.traces.load import RequestTrace, Trace, UnreadableTrace

DAY = 86_400.0
FEWEST_DAYS = 3
STANDARD_LENGTHS = {0.0: 8.0, 0.5: 24.0, 1.0: 64.0}  # tokens, for traces without lengths


@dataclass(frozen=True, slots=True)
class LoadSchedule:
    """Everything that is fixed before a run starts. Times are seconds of the run.

    `history` and `live` are rates of all requests; `live` starts with a lead-in of `lead_in`
    seconds, then the day. `arrivals` count from the start of the lead-in.
    """

    name: str
    source: str
    compression: float
    season: float | None
    history: Curve | None
    live: Curve
    lead_in: float
    arrivals: tuple[ScheduledRequest, ...]

    @property
    def seconds(self) -> float:
        """Length of the run, including the lead-in."""
        return self.live.seconds

    def trace_time(self, real_seconds: float) -> str:
        """Return how much time of the trace passes in `real_seconds`."""
        own = real_seconds * self.compression
        if own < 90:
            return f"{own:.0f} seconds"
        return f"{own / 60:.0f} minutes" if own < 5400 else f"{own / 3600:.1f} hours"


def build_schedule(
    trace: Trace,
    duration: float,
    lead_in: float,
    peak: float,
    shares: Sequence[Share],
    caps: Caps,
    seed: int,
) -> LoadSchedule:
    """Return the schedule of `trace` in `duration` seconds.

    `peak` is the rate (requests/s) of the busiest moment of the live part.
    """
    if isinstance(trace, RequestTrace):
        return _of_requests(trace, duration, peak, shares, caps, seed)
    per_day = round(DAY / trace.bucket_seconds)
    days = len(trace.per_minute) / per_day
    live_buckets = per_day if days >= FEWEST_DAYS else len(trace.per_minute)
    first = len(trace.per_minute) - live_buckets
    compression = live_buckets * trace.bucket_seconds / duration
    live_from = first
    if days >= FEWEST_DAYS:
        live_from -= min(round(lead_in * compression / trace.bucket_seconds), per_day)
    shown = trace.part(live_from, len(trace.per_minute))
    highest = max((rate for rate in shown.per_minute if rate is not None), default=0.0)
    if not highest > 0:
        raise UnreadableTrace(f"{trace.name} has no requests in the part to send")
    scale = peak / highest
    season = history = None
    if days >= FEWEST_DAYS:
        season = DAY / compression
        history = curve_of(trace.part(0, live_from), compression, scale)
    live = curve_of(shown, compression, scale)
    arrivals = draw(
        live,
        shares,
        trace.prompt_tokens or STANDARD_LENGTHS,
        trace.output_tokens or STANDARD_LENGTHS,
        caps,
        seed,
    )
    return LoadSchedule(
        trace.name,
        trace.source,
        compression,
        season,
        history,
        live,
        live.seconds - duration,
        tuple(arrivals),
    )


def _of_requests(
    trace: RequestTrace,
    duration: float,
    peak: float,
    shares: Sequence[Share],
    caps: Caps,
    seed: int,
) -> LoadSchedule:
    """Keep the arrival times of the trace, and as many of its requests as the capacity allows.

    The peak is the mean rate of the busiest 50th of the run.
    """
    everything = replay(trace, duration, 1.0, shares, caps, seed)
    busiest = max(counted(everything, duration, duration / 50).rates)
    keep_probability = min(1.0, peak / busiest)
    arrivals = replay(trace, duration, keep_probability, shares, caps, seed)
    return LoadSchedule(
        trace.name,
        trace.source,
        trace.seconds / duration,
        None,
        None,
        counted(arrivals, duration, duration / 150),
        0.0,
        tuple(arrivals),
    )
