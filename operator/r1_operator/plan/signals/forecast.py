"""A forecast as the decision code reads it.

Parsed from the forecaster's answer; whatever is wrong with one (late, negative, not a number,
looking backwards) makes it `Unavailable` with the reason, and the operator scales on real time.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

from r1_operator.api.scaling import MetricType
from r1_operator.plan.unavailable import Unavailable

Quantiles = Mapping[float, float]
GRACE = 0.25
"""The share of its lead by which a forecast outlives its validity."""


@dataclass(frozen=True, slots=True)
class ForecastGate:
    """Whether the model's rolling backtest lets it act, and why."""

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
    """Quantiles of `metric` to come, in the metric's unit.

    `peak_over_lead` are quantiles of the maximum over the next `lead_seconds`: what scaling
    needs, since a replica asked for now serves from then on. `points` cover the horizon.
    Times are seconds of the clock that `fault` is asked by.
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
        """Return why this forecast cannot be used at `now`, None when it can."""
        # The next answer may be a moment late, and the peak this one speaks of still lies ahead.
        if now > self.valid_until + self.lead_seconds * GRACE:
            return Unavailable(
                "Expired", f"The forecast ran out {now - self.valid_until:.0f} s ago."
            )
        rows = [self.peak_over_lead, *(point.quantiles for point in self.points)]
        if not self.peak_over_lead or not all(rows):
            return Unavailable("Invalid", "The forecast has no quantiles.")
        if not all(math.isfinite(v) and v >= 0 for row in rows for v in row.values()):
            return Unavailable("Invalid", "The forecast holds a value that no demand can have.")
        if any(point.at <= self.issued_at for point in self.points):
            return Unavailable("Invalid", "The forecast speaks about a time before it was made.")
        return None


def parse_forecast(
    answer: Mapping[str, object],
    lead_seconds: float,
    metric: MetricType = MetricType.REQUESTS_PER_SECOND,
    received_at: float | None = None,
) -> ReceivedForecast | Unavailable:
    """Read the forecaster's JSON answer; anything that does not parse is `Unavailable`.

    `received_at` is when the answer came, by the operator's clock: the forecast's times are moved
    onto that clock, since the forecaster's wall clock can be set. None keeps them as they are.
    """
    if answer.get("state") != "Ready":
        return Unavailable(
            str(answer.get("reason", "Failed")), str(answer.get("message", "No forecast."))
        )
    try:
        gate = _mapping(answer["gate"])
        forecast = ReceivedForecast(
            model=str(answer["model"]),
            issued_at=_number(answer["issuedAt"]),
            valid_until=_number(answer["validUntil"]),
            lead_seconds=lead_seconds,
            peak_over_lead=_quantiles(answer["peakOverLead"]),
            points=tuple(
                ReceivedForecastPoint(_number(point["at"]), _quantiles(point["quantiles"]))
                for point in map(_mapping, _sequence(answer["points"]))
            ),
            gate=ForecastGate(gate["open"] is True, str(gate["reason"]), str(gate["message"])),
            metric=metric,
        )
        age = None if "ageSeconds" not in answer else _number(answer["ageSeconds"])
    except (KeyError, TypeError, ValueError) as error:
        return Unavailable("Invalid", f"The forecaster's answer does not parse: {error!r}.")
    return forecast if received_at is None else _received(forecast, age, received_at)


def _received(
    forecast: ReceivedForecast, age: float | None, received_at: float
) -> ReceivedForecast:
    """The forecast on the clock of `received_at`; `age` is for how long it had been made then.

    A forecaster of an earlier release sends no age. Its clock is then believed while the age by it
    lies within the forecast's validity.
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


def _quantiles(value: object) -> dict[float, float]:
    return {float(str(level)): _number(figure) for level, figure in _mapping(value).items()}


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _sequence(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)
