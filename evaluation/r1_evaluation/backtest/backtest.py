"""A backtest: the leaderboard on a resource's own history, and its configured policy beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from r1_evaluation.backtest.policy_under_test import PolicyUnderTest
from r1_evaluation.backtest.replay import ReplayResult, replay_policy
from r1_evaluation.backtest.verdict import BacktestVerdict, compare
from r1_evaluation.leaderboard.scoring import Leaderboard, score_policies
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.simulator.fluid import ServiceOutcome, service_outcome, serving_counts
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import STEP_SECONDS, Scenario, scenario_of
from r1_operator.api.scaling import Activation

REQUIRED_POLICIES = ("ours", "ours-no-forecast", "hpa")
DEFAULT_POLICIES = (*REQUIRED_POLICIES, "static", "oracle")


@dataclass(frozen=True, slots=True)
class ConfiguredOutcome:
    """Outcome of the configured policy, replayed by `decide`, and of an HPA at the same target."""

    ours: ServiceOutcome
    hpa: ServiceOutcome
    scored_hours: float


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """The result of a backtest."""

    candidate: PolicyUnderTest
    scenario: Scenario
    board: Leaderboard
    replay: ReplayResult
    configured: ConfiguredOutcome
    verdict: BacktestVerdict

    def to_json(self) -> dict[str, object]:
        """The backtest as `--json` prints it: the leaderboard's fields, and more beside them."""
        return {
            "resource": self.candidate.name,
            "query": self.candidate.query,
            "notReplayed": list(self.candidate.not_replayed),
            "verdict": self.verdict.to_json(),
            "configured": {
                "targetUtilizationPercent": round(100 * self.candidate.policy.target_utilization),
                "ours": _outcome_json(self.configured.ours),
                "hpa": _outcome_json(self.configured.hpa),
                "hours": self.configured.scored_hours,
            },
            **self.board.to_json(),
        }


def scenario_at_capacity(
    trace: RateTrace, candidate: PolicyUnderTest, start_seconds: float
) -> Scenario:
    """Return the scenario of a trace with the candidate's capacity per replica."""
    return replace(scenario_of(trace, start_seconds), capacity=candidate.metric.target)


def policy_inputs(scenario: Scenario, candidate: PolicyUnderTest) -> PolicyInputs:
    """Return inputs within the candidate's bounds, so that one budget bounds every policy."""
    min_replicas = max(1, candidate.policy.min_replicas)
    return PolicyInputs(
        scenario,
        max_replicas=max(min_replicas, candidate.policy.effective_max),
        min_replicas=min_replicas,
    )


def wants_forecast(candidate: PolicyUnderTest) -> bool:
    """Whether the candidate's policy lets a forecast act."""
    return candidate.policy.forecast.activation in (Activation.ALWAYS, Activation.REQUIRE_BACKTEST)


def run(
    trace: RateTrace,
    candidate: PolicyUnderTest,
    start_seconds: float,
    policies: Sequence[str] = DEFAULT_POLICIES,
    on_progress: Callable[[str], None] = lambda step: None,
) -> Backtest:
    """Score all policies and replay the configured one; `on_progress` receives each step's name.

    Raises UnreadableTrace when the history is too short or holds no load.
    """
    scenario = scenario_at_capacity(trace, candidate, start_seconds)
    inputs = policy_inputs(scenario, candidate)
    names = [*REQUIRED_POLICIES, *(name for name in policies if name not in REQUIRED_POLICIES)]
    board = score_policies(
        inputs, start_seconds, names, on_progress=on_progress,
        on_skipped=lambda name, reason: on_progress(f"skipping {name}: {reason}"),
    )  # fmt: skip
    on_progress("replaying the configured policy with the controller's code")
    forecast = inputs.replayed_forecast if wants_forecast(candidate) else None
    replay = replay_policy(scenario, candidate, forecast)
    rows = {row.name: row for row in board.policies}
    verdict = compare(rows["ours"], rows["ours-no-forecast"], rows["hpa"], board.max_overload)
    configured = ConfiguredOutcome(
        service_outcome(scenario, replay.counts, replay.serving),
        service_outcome(scenario, replay.hpa, serving_counts(replay.hpa, scenario.start_steps)),
        float(scenario.scored[scenario.decision_steps].sum()) * STEP_SECONDS / 3600,
    )
    return Backtest(candidate, scenario, board, replay, configured, verdict)


def _outcome_json(outcome: ServiceOutcome) -> dict[str, float]:
    return {
        "replicaHours": outcome.paid * STEP_SECONDS / 3600,
        "overload": outcome.overload,
        "actionsPerHour": outcome.actions_per_hour,
    }
