"""Season, lead and horizon of a request, counted in steps of its series."""

from __future__ import annotations

import math
from dataclasses import dataclass

from r1_common.contracts.forecast_request import ForecastRequest
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """Lengths in steps.

    ``season`` may be fractional: a season need not be a whole number of steps. ``weekly`` allows
    a second season of seven where the history holds at least fourteen.
    """

    season: float
    lead: int
    horizon: int
    weekly: bool = False

    def __post_init__(self) -> None:
        if not self.season >= 2:
            raise ValueError(f"season is {self.season} steps long, needs at least 2")
        if self.lead < 1 or self.horizon < 1:
            raise ValueError("lead and horizon need at least one step")


def shape_of(request: ForecastRequest) -> SeriesShape:
    """The lengths of a request in steps.

    The lead is one step longer, because the newest observation is up to one step old.
    """
    return SeriesShape(
        season=request.season / request.step,
        lead=math.ceil(request.lead / request.step - 1e-9) + 1,
        horizon=max(math.ceil(request.horizon / request.step - 1e-9), 1),
        weekly=request.weekly,
    )


def too_short(steps: int, shape: SeriesShape, seasons: int) -> ForecastUnavailable | None:
    """Return `TooLittleHistory` where ``steps`` of history hold fewer than ``seasons`` seasons."""
    known = steps / shape.season
    if known >= seasons:
        return None
    message = f"{known:.1f} seasons of history, needs {seasons}"
    return ForecastUnavailable(UnavailableReason.TOO_LITTLE_HISTORY, message)
