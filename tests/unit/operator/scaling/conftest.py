"""Fixtures for scaling simulations: a virtual clock, a policy, demand per second."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.decide import ScalingState, decide
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast, ReceivedForecastPoint

TEN_EACH = MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0)
START = 1_700_000_000.0


def demand_of(rate: float | Unavailable = 0.0, **figures: object) -> Demand:
    plain = Demand(
        requests_per_second=rate,
        tokens_per_second=0.0,
        in_flight=0.0,
        queued=0.0,
        oldest_wait_seconds=0.0,
    )
    return replace(plain, **figures)  # type: ignore[arg-type]


@dataclass
class Stage:
    """A simulation: `play` decides once per second and applies the count at once."""

    policy: ScalingPolicy
    replicas: int = 1
    now: float = START
    history: ScalingState = field(default_factory=ScalingState)
    decisions: list[Decision] = field(default_factory=list)

    def once(
        self,
        demand: Demand | Unavailable | float,
        forecast: ReceivedForecast | Unavailable | None = None,
        *,
        ready: int | None = None,
        seats: int = 8,
    ) -> Decision:
        if isinstance(demand, float | int):
            demand = demand_of(float(demand))
        ready_replicas = self.replicas if ready is None else ready
        observed = ScalingInputs(self.replicas, ready_replicas, demand, forecast, seats)
        decision, self.history = decide(self.policy, observed, self.history, self.now)
        self.replicas = decision.replicas
        self.decisions.append(decision)
        self.now += 1
        return decision

    def play(self, seconds: int, demand: Demand | Unavailable | float, **more: object) -> Decision:
        for _ in range(seconds):
            decision = self.once(demand, **more)  # type: ignore[arg-type]
        return decision


@pytest.fixture
def stage() -> Callable[..., Stage]:
    """Build a simulation; default: 1 to 20 replicas of ten requests/s at 70 %."""

    def build(replicas: int = 1, *, watched: bool = True, **changes: object) -> Stage:
        plain = ScalingPolicy(min_replicas=1, max_replicas=20, metrics=(TEN_EACH,))
        policy = replace(plain, **changes)  # type: ignore[arg-type]
        built = Stage(policy, replicas)
        if watched:  # old enough that no start-up rule applies
            built.history = replace(
                ScalingState().started(START - 3600, replicas), highest_recommendations=()
            )
        return built

    return build


@pytest.fixture
def demand() -> Callable[..., Demand]:
    """Build a demand: requests/s first, other figures by name with default zero."""

    def build(requests_per_second: float | Unavailable = 0.0, **figures: object) -> Demand:
        return demand_of(requests_per_second, **figures)

    return build


@pytest.fixture
def forecast() -> Callable[..., ReceivedForecast]:
    """Build an acting forecast: its 91 % peak over a lead time of 45 s, and points at offsets."""

    def build(
        peak: float,
        *,
        points: dict[float, float] | None = None,
        acts: bool = True,
        now: float = START,
        metric: MetricType = MetricType.REQUESTS_PER_SECOND,
    ) -> ReceivedForecast:
        return ReceivedForecast(
            model="lstm",
            issued_at=now,
            valid_until=now + 1e6,
            lead_seconds=45.0,
            peak_over_lead={0.5: peak * 0.8, 0.9: peak * 0.9, 0.91: peak},
            points=tuple(
                ReceivedForecastPoint(now + ahead, {0.5: value * 0.8, 0.9: value})
                for ahead, value in (points or {}).items()
            ),
            gate=ForecastGate(
                acts, "BeatsBaselines" if acts else "LosesToLastValue", "By the backtest."
            ),
            metric=metric,
        )

    return build
