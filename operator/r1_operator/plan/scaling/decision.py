"""A scaling decision as a value.

A `Decision` carries the count, its reason and message, every step of the rule chain and all inputs.
Conditions, Events, log lines and `r1 explain` show the same message.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.scaling.forecast_rules.forecast_approval import ForecastApproval
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.scaling.seat_reservation import ClassReservation

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


UNMET = frozenset(
    {
        DecisionReason.AT_MAX_REPLICAS,
        DecisionReason.AT_GPU_BUDGET,
        DecisionReason.AT_COST_BUDGET,
        DecisionReason.AT_POWER_BUDGET,
        DecisionReason.OVER_BUDGET,
        DecisionReason.INSUFFICIENT_CAPACITY,
    }
)
"""Limits that stay until the resource or the cluster changes."""


@dataclass(frozen=True, slots=True)
class DecisionStep:
    """One rule of the chain: the count before and after, with reason and message."""

    name: str
    before: int
    after: int
    reason: DecisionReason
    message: str

    @property
    def changed(self) -> bool:
        """Whether the rule changed the count."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class ForecastContribution:
    """The forecast's part in a decision.

    `acting`: its count was one of the candidates, not necessarily the highest. `replicas`: its count,
    None without a usable forecast. `unavailable`: the reason for a missing forecast, which becomes the
    condition ForecastUnavailable.
    """

    acting: bool
    replicas: int | None
    message: str
    unavailable: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Replica count of a resource at `at` (seconds of the process' clock), with its reason.

    `steps`: rules in their order; the last one that changed the count gave the reason. `inputs`:
    JSON-ready. `hpa_replicas`: count of the simulated HorizontalPodAutoscaler on the same demand (None
    before the first demand). `seat_reservations`: seats that the gateways reserve for classes with an
    SLO target (Unavailable: the arrivals are unknown and each gateway uses its own; None: not computed).
    `forecast_approval`: result of the backtest that the resource names (None: it names none).
    `next_scale_down_seconds`: the earliest time of the next scale-down while demand stays as it is
    (None: none waits for a time).
    """

    at: float
    current: int
    replicas: int
    reason: DecisionReason
    message: str
    mode: DecisionMode
    steps: tuple[DecisionStep, ...] = ()
    inputs: Mapping[str, Json] = field(default_factory=dict)
    forecast: ForecastContribution | None = None
    hpa_replicas: int | None = None
    seat_reservations: tuple[ClassReservation, ...] | Unavailable | None = None
    forecast_approval: ForecastApproval | None = None
    next_scale_down_seconds: float | None = None

    @property
    def metrics_available(self) -> bool:
        """Whether all demand was available: the condition ScalingActive."""
        return all(step.reason is not DecisionReason.METRICS_UNAVAILABLE for step in self.steps)

    @property
    def limited(self) -> bool:
        """Whether a limit overrides the demand: the condition ScalingLimited."""
        return self.reason is DecisionReason.RATE_LIMITED or self.reason in UNMET

    def to_json(self) -> dict[str, Json]:
        """Return the whole decision as JSON values; figures that are not finite become null."""
        forecast, approval = self.forecast, self.forecast_approval
        return {
            "at": self.at,
            "current": self.current,
            "replicas": self.replicas,
            "reason": self.reason.value,
            "message": self.message,
            "mode": self.mode.value,
            "hpaReplicas": self.hpa_replicas,
            "nextScaleDownSeconds": self.next_scale_down_seconds,
            "forecast": None
            if forecast is None
            else {
                "acting": forecast.acting,
                "replicas": forecast.replicas,
                "message": forecast.message,
                "unavailable": None
                if forecast.unavailable is None
                else forecast.unavailable.reason,
            },
            "forecastApproval": None
            if approval is None
            else {
                "approved": approval.approved,
                "reason": approval.reason.value,
                "message": approval.message,
            },
            "seatReservations": reservation_json(self.seat_reservations),
            "steps": [
                {
                    "name": step.name,
                    "before": step.before,
                    "after": step.after,
                    "reason": step.reason.value,
                    "message": step.message,
                }
                for step in self.steps
            ],
            "inputs": {name: finite(value) for name, value in self.inputs.items()},
        }


def reservation_json(reservations: tuple[ClassReservation, ...] | Unavailable | None) -> Json:
    """Return the reserved seats by class, or why they are unknown."""
    if reservations is None:
        return None
    if isinstance(reservations, Unavailable):
        return {"unavailable": reservations.reason, "message": reservations.message}
    return {
        one.name.value: {
            "seats": one.seats,
            "perGateway": one.per_gateway,
            "reason": one.reason.value,
            "message": one.message,
        }
        for one in reservations
    }


def finite(value: Json) -> Json:
    """Replace NaN and infinities by null, because JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value
