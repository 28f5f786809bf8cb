"""What-if: the recorded load replayed with other settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from r1_evaluation.backtest.backtest import scenario_at_capacity, wants_forecast
from r1_evaluation.backtest.policy_under_test import PolicyUnderTest
from r1_evaluation.backtest.queue_waits import share_waiting_longer
from r1_evaluation.backtest.replay import replay_policy
from r1_evaluation.policies.forecast_replay import ReplayedForecast, replay_forecast
from r1_evaluation.simulator.fluid import service_outcome
from r1_evaluation.traces.load import RateTrace, UnreadableTrace
from r1_evaluation.traces.scenario import STEP_SECONDS, Scenario
from r1_operator.api.scaling import Activation

OBJECTIVE_SHARE = 0.99
CANDIDATE_PERCENT = tuple(range(30, 100, 5))


@dataclass(frozen=True, slots=True)
class SettingChange:
    """Changed settings; None: unchanged."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    utilization_percent: int | None = None
    no_forecast: bool = False

    def of(self, candidate: PolicyUnderTest) -> PolicyUnderTest:
        """Return the subject with the change. Raises ValueError for bounds that cross."""
        policy = candidate.policy
        low = policy.min_replicas if self.min_replicas is None else self.min_replicas
        high = policy.max_replicas if self.max_replicas is None else self.max_replicas
        if low > high:
            raise ValueError(f"minReplicas {low} is above maxReplicas {high}")
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
        return replace(candidate, policy=changed)


@dataclass(frozen=True, slots=True)
class SettingsOutcome:
    """Outcome of one set of settings.

    `overload` is the share of requests that arrived when load exceeded the capacity of the ready
    replicas; `late` the share whose wait for a seat exceeds the objective (None: no objective).
    """

    replica_hours: float
    overload: float
    late: float | None
    most: int
    at_maximum_share: float
    actions_per_hour: float

    def to_json(self) -> dict[str, float | int | None]:
        """The outcome as `--json` prints it."""
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
    """Outcomes of the current and the changed settings.

    With an objective: the highest utilization that meets it, and the outcome there.
    """

    hours: float
    current: SettingsOutcome
    changed: SettingsOutcome
    highest_percent: int | None
    at_highest: SettingsOutcome | None

    def to_json(self) -> dict[str, object]:
        """The result as `--json` prints it."""
        at_highest = None
        if self.at_highest is not None:
            at_highest = {
                "targetUtilizationPercent": self.highest_percent,
                **self.at_highest.to_json(),
            }
        return {
            "hours": self.hours,
            "current": self.current.to_json(),
            "changed": self.changed.to_json(),
            "highestUtilizationWithinObjective": at_highest,
        }


def evaluate_change(
    trace: RateTrace,
    candidate: PolicyUnderTest,
    change: SettingChange,
    start_seconds: float,
    seconds: float,
    slo_seconds: float | None = None,
    on_progress: Callable[[str], None] = lambda what: None,
) -> WhatIf:
    """Replay the last `seconds` of a trace with the current and with the changed settings.

    Raises UnreadableTrace when the history is too short, ValueError for bounds that cross.
    """
    scenario = _recent(scenario_at_capacity(trace, candidate, start_seconds), seconds)
    other = change.of(candidate)
    replayed_forecast = None
    if wants_forecast(candidate) or wants_forecast(other):
        on_progress("replaying the forecaster")
        replayed_forecast = replay_forecast(scenario)
    on_progress("replaying the current settings")
    current = _settings_line(scenario, candidate, replayed_forecast, slo_seconds)
    on_progress("replaying the changed settings")
    changed = _settings_line(scenario, other, replayed_forecast, slo_seconds)
    percent, at_highest = None, None
    if slo_seconds is not None:

        def at(tried: int) -> SettingsOutcome:
            on_progress(f"replaying a target utilization of {tried} %")
            settings = replace(change, utilization_percent=tried).of(candidate)
            return _settings_line(scenario, settings, replayed_forecast, slo_seconds)

        percent, at_highest = _highest_that_keeps(at)
    hours = float(np.count_nonzero(scenario.scored[scenario.decision_steps])) * STEP_SECONDS / 3600
    return WhatIf(hours, current, changed, percent, at_highest)


def _highest_that_keeps(
    at: Callable[[int], SettingsOutcome],
) -> tuple[int | None, SettingsOutcome | None]:
    """Return the highest utilization that meets the objective, by bisection.

    Waits never get shorter at a higher utilization.
    """

    def keeps(settings_outcome: SettingsOutcome) -> bool:
        return settings_outcome.late is not None and settings_outcome.late <= 1 - OBJECTIVE_SHARE

    good, at_highest = CANDIDATE_PERCENT[0], at(CANDIDATE_PERCENT[0])
    if not keeps(at_highest):
        return None, None
    rest = list(CANDIDATE_PERCENT[1:])
    while rest:
        middle = len(rest) // 2
        settings_outcome = at(rest[middle])
        if keeps(settings_outcome):
            good, at_highest, rest = rest[middle], settings_outcome, rest[middle + 1 :]
        else:
            rest = rest[:middle]
    return good, at_highest


def _recent(scenario: Scenario, seconds: float) -> Scenario:
    steps = len(scenario.demand)
    first = steps - round(seconds / STEP_SECONDS)
    if first < 1:
        raise UnreadableTrace(
            f"{scenario.name}: the history is shorter than the requested {seconds:.0f} s"
        )
    scored = scenario.known & (np.arange(steps) >= first)
    run_in = round(3600 / STEP_SECONDS)
    return replace(scenario, begin=max(0, first - run_in), test_from=first, scored=scored)


def _settings_line(
    scenario: Scenario,
    candidate: PolicyUnderTest,
    replayed_forecast: ReplayedForecast | None,
    slo_seconds: float | None,
) -> SettingsOutcome:
    replay = replay_policy(
        scenario, candidate, replayed_forecast if wants_forecast(candidate) else None
    )
    chosen = scenario.scored[scenario.decision_steps]
    demand = scenario.demand[scenario.decision_steps]
    found = service_outcome(scenario, replay.counts, replay.serving)
    late = None
    if slo_seconds is not None:
        shares = share_waiting_longer(
            demand,
            replay.serving * candidate.seats,
            scenario.capacity / candidate.seats,
            replay.queue_seconds,
            slo_seconds,
        )
        offered = float(demand[chosen].sum())
        late = float((shares * demand)[chosen].sum()) / offered if offered > 0 else 0.0
    counts = replay.counts[chosen]
    return SettingsOutcome(
        found.paid * STEP_SECONDS / 3600,
        found.overload,
        late,
        int(counts.max(initial=0)),
        float(np.mean(counts >= candidate.policy.effective_max)) if len(counts) else 0.0,
        found.actions_per_hour,
    )
