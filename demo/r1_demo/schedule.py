"""The programme of a play: what is history, what is played, how fast, at which rates.

A trace of several days gives its last day to the play and the days before it to the forecaster,
as history. Played in `duration` seconds, a day of 86,400 s runs `86400 / duration` times faster;
the history is squeezed by the same factor, so that the season the forecaster learns is exactly
as long as the play. The last part of the history is not backfilled but played live before the
day begins (the lead-in): the forecaster trains meanwhile.

A trace of less than three days has no past worth learning from: all of it is played.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r1_demo.arrivals import Caps, Curve, ScheduledRequest, Share, counted, curve_of, draw, replay
from r1_evaluation.traces.load import RequestTrace, Trace, UnreadableTrace

DAY = 86_400.0
FEWEST_DAYS = 3
STANDARD_LENGTHS = {0.0: 8.0, 0.5: 24.0, 1.0: 64.0}  # for traces that know no lengths


@dataclass(frozen=True, slots=True)
class LoadSchedule:
    """All that is fixed before the play begins. Times are seconds of the play.

    `history` and `live` are rates of all requests together; `live` begins with the lead-in of
    `lead_in` seconds, then the day. `arrivals` count from the beginning of the lead-in.
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
        """The length of the play, lead-in and all."""
        return self.live.seconds

    def trace_time(self, real_seconds: float) -> str:
        """Return what a number of real seconds weighs on the trace's own clock."""
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
    """Return the programme that plays `trace` in `duration` seconds.

    `peak` is the rate (requests/s) at which the busiest moment of the played part is offered.
    """
    if isinstance(trace, RequestTrace):
        return _of_requests(trace, duration, peak, shares, caps, seed)
    per_day = round(DAY / trace.bucket_seconds)
    days = len(trace.per_minute) / per_day
    played = per_day if days >= FEWEST_DAYS else len(trace.per_minute)
    first = len(trace.per_minute) - played
    compression = played * trace.bucket_seconds / duration
    live_from = first
    if days >= FEWEST_DAYS:
        live_from -= min(round(lead_in * compression / trace.bucket_seconds), per_day)
    shown = trace.part(live_from, len(trace.per_minute))
    highest = max((rate for rate in shown.per_minute if rate is not None), default=0.0)
    if not highest > 0:
        raise UnreadableTrace(f"{trace.name} has no requests in the part that would be played")
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
    """Keep every moment of the trace, and as many of its requests as the machine can take.

    The peak of single requests is that of its busiest fiftieth: a mean over a 50th of the play.
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
