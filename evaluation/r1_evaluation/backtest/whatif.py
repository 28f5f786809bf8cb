"""What would have happened: the last days lived through again with other settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from r1_evaluation.backtest.backtest import own_world, wants_forecast
from r1_evaluation.backtest.replay import replay_policy
from r1_evaluation.backtest.subject import BacktestSubject
from r1_evaluation.backtest.waits import share_waiting_longer
from r1_evaluation.leaderboard.fluid import outcome
from r1_evaluation.leaderboard.forecast_replay import ReplayedForecast, replay_forecast
from r1_evaluation.leaderboard.scenario import STEP_SECONDS, Scenario
from r1_evaluation.traces.load import RateTrace, UnreadableTrace
from r1_operator.api.scaling import Activation

KEPT_SHARE = 0.99
TRIED_PERCENT = tuple(range(30, 100, 5))


@dataclass(frozen=True, slots=True)
class SettingChange:
    """The settings that are different; None: as they are."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    utilization_percent: int | None = None
    no_forecast: bool = False

    def of(self, subject: BacktestSubject) -> BacktestSubject:
        """Return the subject with the change. Raises ValueError for bounds that cross."""
        policy = subject.policy
        low = policy.min_replicas if self.min_replicas is None else self.min_replicas
        high = policy.max_replicas if self.max_replicas is None else self.max_replicas
        if low > high:
            raise ValueError(f"the minimum {low} is above the maximum {high}")
        use = policy.target_utilization
        if self.utilization_percent is not None:
            use = self.utilization_percent / 100
        forecast = policy.forecast
        if self.no_forecast:
            forecast = replace(forecast, activation=Activation.NEVER)
        changed = replace(
            policy,
            min_replicas=low,
            max_replicas=high,
            target_utilization=use,
            forecast=forecast,
        )
        return replace(subject, policy=changed)


@dataclass(frozen=True, slots=True)
class ReplicaSeries:
    """What one set of settings came to.

    `overload` is the share of requests that met more load than the serving replicas carry;
    `late` the share that would have waited longer for a seat than the objective (None: no
    objective was asked about).
    """

    replica_hours: float
    overload: float
    late: float | None
    most: int
    at_maximum_share: float
    actions_per_hour: float

    def to_json(self) -> dict[str, float | int | None]:
        """The course as `--json` prints it."""
        return {
            "replicaHours": self.replica_hours,
            "overload": self.overload,
            "waitedLonger": self.late,
            "highestCount": self.most,
            "atMaximumShare": self.at_maximum_share,
            "actionsPerHour": self.actions_per_hour,
        }


@dataclass(frozen=True, slots=True)
class WhatIf:
    """As it is, as it would be, and the highest utilisation that keeps the objective, if asked."""

    hours: float
    as_it_is: ReplicaSeries
    changed: ReplicaSeries
    keeps_at_percent: int | None
    kept: ReplicaSeries | None

    def to_json(self) -> dict[str, object]:
        """The answer as `--json` prints it."""
        kept = None
        if self.kept is not None:
            kept = {"targetUtilizationPercent": self.keeps_at_percent, **self.kept.to_json()}
        return {
            "hours": self.hours,
            "asItIs": self.as_it_is.to_json(),
            "whatIf": self.changed.to_json(),
            "objectiveKeptAt": kept,
        }


def ask(
    trace: RateTrace,
    subject: BacktestSubject,
    change: SettingChange,
    start_seconds: float,
    seconds: float,
    slo_seconds: float | None = None,
    said: Callable[[str], None] = lambda what: None,
) -> WhatIf:
    """Live through the last `seconds` of a trace as it was set and as it would be.

    Raises UnreadableTrace for too short a history, ValueError for bounds that cross.
    """
    world = _recent(own_world(trace, subject, start_seconds), seconds)
    other = change.of(subject)
    foresight = None
    if wants_forecast(subject) or wants_forecast(other):
        said("what the forecaster would have said")
        foresight = replay_forecast(world)
    said("as it is")
    as_it_is = _course(world, subject, foresight, slo_seconds)
    said("what if")
    changed = _course(world, other, foresight, slo_seconds)
    percent, kept = None, None
    if slo_seconds is not None:

        def at(tried: int) -> ReplicaSeries:
            said(f"a utilisation of {tried} %")
            settings = replace(change, utilization_percent=tried).of(subject)
            return _course(world, settings, foresight, slo_seconds)

        percent, kept = _highest_that_keeps(at)
    hours = float(np.count_nonzero(world.scored[world.played])) * STEP_SECONDS / 3600
    return WhatIf(hours, as_it_is, changed, percent, kept)


def _highest_that_keeps(
    at: Callable[[int], ReplicaSeries],
) -> tuple[int | None, ReplicaSeries | None]:
    """Halve the utilisations between the lowest, which has to keep the objective, and the rest:
    a fuller replica never makes waits shorter."""

    def keeps(course: ReplicaSeries) -> bool:
        return course.late is not None and course.late <= 1 - KEPT_SHARE

    good, kept = TRIED_PERCENT[0], at(TRIED_PERCENT[0])
    if not keeps(kept):
        return None, None
    rest = list(TRIED_PERCENT[1:])
    while rest:
        middle = len(rest) // 2
        course = at(rest[middle])
        if keeps(course):
            good, kept, rest = rest[middle], course, rest[middle + 1 :]
        else:
            rest = rest[:middle]
    return good, kept


def _recent(world: Scenario, seconds: float) -> Scenario:
    steps = len(world.demand)
    first = steps - round(seconds / STEP_SECONDS)
    if first < 1:
        raise UnreadableTrace(f"{world.name}: history is shorter than what is asked about")
    scored = world.known & (np.arange(steps) >= first)
    run_in = round(3600 / STEP_SECONDS)
    return replace(world, begin=max(0, first - run_in), test_from=first, scored=scored)


def _course(
    world: Scenario,
    subject: BacktestSubject,
    foresight: ReplayedForecast | None,
    slo_seconds: float | None,
) -> ReplicaSeries:
    lived = replay_policy(world, subject, foresight if wants_forecast(subject) else None)
    chosen = world.scored[world.played]
    demand = world.demand[world.played]
    found = outcome(world, lived.counts, lived.serving)
    late = None
    if slo_seconds is not None:
        shares = share_waiting_longer(
            demand,
            lived.serving * subject.seats,
            world.capacity / subject.seats,
            lived.queue_seconds,
            slo_seconds,
        )
        offered = float(demand[chosen].sum())
        late = float((shares * demand)[chosen].sum()) / offered if offered > 0 else 0.0
    counts = lived.counts[chosen]
    return ReplicaSeries(
        found.paid * STEP_SECONDS / 3600,
        found.overload,
        late,
        int(counts.max(initial=0)),
        float(np.mean(counts >= subject.policy.effective_max)) if len(counts) else 0.0,
        found.actions_per_hour,
    )
