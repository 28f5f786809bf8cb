"""A forecast as the decision code reads it.

Parsed from the forecaster's response. A fault (late, negative, not a number, in the past) makes the
forecast `Unavailable` with a reason, and the operator scales on real-time demand.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

from r1_common.contracts.forecast_response import (
    InvalidForecast,
    NoForecast,
    Quantiles,
    parse_forecast_response,
)
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType

GRACE = 0.25
"""Grace after the end of a forecast's validity, as a share of its lead time."""


@dataclass(frozen=True, slots=True)
class ForecastGate:
    """Whether the model's rolling backtest allows it to act, with the reason."""

    acts: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReceivedForecastPoint:
    """Quantiles of demand at one moment (unix seconds)."""

    at: float
    quantiles: Quantiles


@dataclass(frozen=True, slots=True)
class ReceivedForecast:
    """Quantiles of the future `metric`, in its unit.

    `peak_over_lead`: quantiles of the maximum over the next `lead_seconds`, after which a replica
    requested now serves. `points` cover the horizon. Times are seconds of the clock of `fault`.
    """

    model: str
    issued_at: float
    valid_until: float
    lead_seconds: float
    peak_over_lead: Quantiles
    points: tuple[ReceivedForecastPoint, ...]
    gate: ForecastGate
    metric: MetricType = MetricType.REQUESTS_PER_SECOND

    def fault(self, now: float) -> Unavailable | None:
        """Return why this forecast cannot be used at `now`, None if it can."""
        # The next response may be a little late, and the peak of this one is still ahead.
        if now > self.valid_until + self.lead_seconds * GRACE:
            return Unavailable(
                "Expired", f"The forecast expired {now - self.valid_until:.0f} s ago."
            )
        rows = [self.peak_over_lead, *(point.quantiles for point in self.points)]
        if not self.peak_over_lead or not all(rows):
            return Unavailable("Invalid", "The forecast has no quantiles.")
        if not all(math.isfinite(v) and v >= 0 for row in rows for v in row.values()):
            return Unavailable("Invalid", "The forecast has a negative or non-finite value.")
        if any(point.at <= self.issued_at for point in self.points):
            return Unavailable("Invalid", "The forecast has a point before its issue time.")
        return None


def parse_forecast(
    response: Mapping[str, object],
    lead_seconds: float,
    metric: MetricType = MetricType.REQUESTS_PER_SECOND,
    received_at: float | None = None,
) -> ReceivedForecast | Unavailable:
    """Parse the forecaster's JSON response; an invalid one is `Unavailable`.

    `received_at`: arrival of the response on the operator's clock. The forecast's times are moved onto
    that clock, because the forecaster's wall clock can be set. None keeps them.
    """
    try:
        parsed = parse_forecast_response(response)
    except InvalidForecast as error:
        return Unavailable("Invalid", f"The forecaster's response does not parse: {error}.")
    if isinstance(parsed, NoForecast):
        return Unavailable(parsed.reason, parsed.message)
    forecast = ReceivedForecast(
        model=parsed.model,
        issued_at=parsed.issued_at,
        valid_until=parsed.valid_until,
        lead_seconds=lead_seconds,
        peak_over_lead=parsed.peak_over_lead,
        points=tuple(ReceivedForecastPoint(one.at, one.quantiles) for one in parsed.points),
        gate=ForecastGate(parsed.gate.open, parsed.gate.reason, parsed.gate.message),
        metric=metric,
    )
    return forecast if received_at is None else _received(forecast, parsed.age_seconds, received_at)


def _received(
    forecast: ReceivedForecast, age: float | None, received_at: float
) -> ReceivedForecast:
    """Return the forecast on the clock of `received_at`; `age`: its age at that time.

    A forecaster of an earlier release sends no age. Its own clock then counts while the resulting age is
    within the forecast's validity.
    """
    validity = forecast.valid_until - forecast.issued_at
    if age is None:
        age = received_at - forecast.issued_at
        if not 0 <= age <= validity:
            age = 0.0
    moved = received_at - max(0.0, age) - forecast.issued_at
    return replace(
        forecast,
        issued_at=forecast.issued_at + moved,
        valid_until=forecast.valid_until + moved,
        points=tuple(
            ReceivedForecastPoint(one.at + moved, one.quantiles) for one in forecast.points
        ),
    )


def at_level(quantiles: Quantiles, level: float) -> float:
    """Return the quantile at `level`, linear between the nearest ones and flat beyond them."""
    levels = sorted(quantiles)
    right = bisect_left(levels, level - 1e-9)
    if right == len(levels):
        return quantiles[levels[-1]]
    if right == 0 or math.isclose(levels[right], level):
        return quantiles[levels[right]]
    low, high = levels[right - 1], levels[right]
    share = (level - low) / (high - low)
    return quantiles[low] + share * (quantiles[high] - quantiles[low])
