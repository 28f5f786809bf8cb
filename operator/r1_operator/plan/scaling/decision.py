"""A scaling decision as a value.

The number is worth little without its reason. A `Decision` carries the count, the constraint
that was binding, one sentence for people, every rule that was asked in its order and every
figure it was asked about. Condition, Event, log line and `r1 explain` all show these same words.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from r1_operator.plan.scaling.forecast_approval import ForecastApproval
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.scaling.seat_reservation import ClassReservation
from r1_operator.plan.unavailable import Unavailable

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


UNMET = frozenset(
    {
        DecisionReason.AT_MAX,
        DecisionReason.AT_GPU_BUDGET,
        DecisionReason.AT_COST_BUDGET,
        DecisionReason.AT_POWER_BUDGET,
        DecisionReason.OVER_BUDGET,
        DecisionReason.INSUFFICIENT_CAPACITY,
    }
)
"""Limits that stay until a person, or the cluster, changes something."""


@dataclass(frozen=True, slots=True)
class DecisionStep:
    """One rule of the chain: the count it was given, the count it gave, and why."""

    name: str
    before: int
    after: int
    reason: DecisionReason
    message: str

    @property
    def changed(self) -> bool:
        """Whether the rule moved the count."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class ForecastNote:
    """What the forecast said and whether it was heard.

    `acting` means its figure was one of the candidates, not that it won. `replicas` is what it
    asked for, None without a usable forecast. `unavailable` is the reason when it should have
    been there and was not: the condition ForecastUnavailable.
    """

    acting: bool
    replicas: int | None
    message: str
    unavailable: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas a resource should have at `at` (seconds of the process' clock), and why.

    `steps` are in the order they were asked; the last one that changed the count named the
    reason. `inputs` is JSON-ready. `holdback` says how many seats the gateways should keep free for
    classes with a promise (Unavailable: what the classes ask for is not known, so each gateway goes
    by what it sees itself; None: nothing asked). `proof` is what the backtest that the resource names says (None: it names none).
    `reactive` is what a plain HorizontalPodAutoscaler on the
    same demand would run at this moment (None while it has not seen any demand).
    """

    at: float
    current: int
    replicas: int
    reason: DecisionReason
    message: str
    mode: DecisionMode
    steps: tuple[DecisionStep, ...] = ()
    inputs: Mapping[str, Json] = field(default_factory=dict)
    forecast: ForecastNote | None = None
    reactive: int | None = None
    holdback: tuple[ClassReservation, ...] | Unavailable | None = None
    proof: ForecastApproval | None = None

    @property
    def metrics_available(self) -> bool:
        """Whether the count rests on demand that was read: the condition ScalingActive."""
        return all(step.reason is not DecisionReason.METRICS_UNAVAILABLE for step in self.steps)

    @property
    def limited(self) -> bool:
        """Whether a limit keeps the count off what demand asks: the condition ScalingLimited."""
        return self.reason is DecisionReason.RATE_LIMITED or self.reason in UNMET

    def to_json(self) -> dict[str, Json]:
        """Return the whole decision as JSON values; figures that are not finite become null."""
        note = self.forecast
        return {
            "at": self.at,
            "current": self.current,
            "replicas": self.replicas,
            "reason": self.reason.value,
            "message": self.message,
            "mode": self.mode.value,
            "reactive": self.reactive,
            "forecast": None
            if note is None
            else {
                "acting": note.acting,
                "replicas": note.replicas,
                "message": note.message,
                "unavailable": None if note.unavailable is None else note.unavailable.reason,
            },
            "proof": None
            if self.proof is None
            else {
                "acts": self.proof.acts,
                "reason": self.proof.reason.value,
                "message": self.proof.message,
            },
            "holdback": reservation_json(self.holdback),
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


def reservation_json(holdback: tuple[ClassReservation, ...] | Unavailable | None) -> Json:
    """Return the seats to keep free by class, or why that is not known."""
    if holdback is None:
        return None
    if isinstance(holdback, Unavailable):
        return {"unavailable": holdback.reason, "message": holdback.message}
    return {
        one.name.value: {
            "seats": one.seats,
            "perGateway": one.per_gateway,
            "reason": one.reason.value,
            "message": one.message,
        }
        for one in holdback
    }


def finite(value: Json) -> Json:
    """Replace NaN and infinities, which JSON does not know, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value
