"""A backtest: the whole board on the user's own history, and the user's own settings beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from r1_evaluation.backtest.replay import ReplayResult, replay_policy
from r1_evaluation.backtest.subject import BacktestSubject
from r1_evaluation.backtest.verdict import BacktestVerdict, judge
from r1_evaluation.leaderboard.board import Leaderboard, play
from r1_evaluation.leaderboard.fluid import ServiceOutcome, outcome, serving
from r1_evaluation.leaderboard.policies import PolicyInputs
from r1_evaluation.leaderboard.scenario import STEP_SECONDS, Scenario, scenario_of
from r1_evaluation.traces.load import RateTrace
from r1_operator.api.scaling import Activation

JUDGED = ("ours", "ours-no-forecast", "hpa")
COMPARED = (*JUDGED, "last-value", "seasonal-naive", "threshold-0.6", "static", "oracle")


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """The user's own settings: ours by `decide`, and a plain autoscaler at the same target."""

    ours: ServiceOutcome
    reactive: ServiceOutcome
    scored_hours: float


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """Everything that was found."""

    subject: BacktestSubject
    world: Scenario
    board: Leaderboard
    lived: ReplayResult
    as_written: OwnPolicy
    verdict: BacktestVerdict

    def to_json(self) -> dict[str, object]:
        """The backtest as `--json` prints it: the board's own shape, and more beside it."""
        return {
            "resource": self.subject.name,
            "query": self.subject.query,
            "notReplayed": list(self.subject.left_out),
            "verdict": self.verdict.to_json(),
            "asWritten": {
                "targetUtilizationPercent": round(100 * self.subject.policy.target_utilization),
                "ours": _outcome_json(self.as_written.ours),
                "hpa": _outcome_json(self.as_written.reactive),
                "hours": self.as_written.scored_hours,
            },
            **self.board.to_json(),
        }


def own_world(trace: RateTrace, subject: BacktestSubject, start_seconds: float) -> Scenario:
    """Return the world of a trace in which a replica carries what the subject says it does."""
    return replace(scenario_of(trace, start_seconds), capacity=subject.metric.target)


def bench_of(world: Scenario, subject: BacktestSubject) -> PolicyInputs:
    """Return the board's bench within the subject's bounds: a budget bounds every policy alike."""
    least = max(1, subject.policy.min_replicas)
    return PolicyInputs(world, most=max(least, subject.policy.effective_max), least=least)


def wants_forecast(subject: BacktestSubject) -> bool:
    """Whether the subject's policy lets a forecast act."""
    return subject.policy.forecast.activation in (Activation.ALWAYS, Activation.REQUIRE_BACKTEST)


def run(
    trace: RateTrace,
    subject: BacktestSubject,
    start_seconds: float,
    policies: Sequence[str] = COMPARED,
    said: Callable[[str], None] = lambda what: None,
) -> Backtest:
    """Play the board and the subject's own settings; `said` hears what is being done.

    Raises UnreadableTrace where the history is too short or holds no load.
    """
    world = own_world(trace, subject, start_seconds)
    bench = bench_of(world, subject)
    names = [*JUDGED, *(name for name in policies if name not in JUDGED)]
    board = play(
        bench, start_seconds, names, said=said,
        left_out=lambda name, reason: said(f"{name} is left out: {reason}"),
    )  # fmt: skip
    said("your settings, by the controller's own code")
    foresight = bench.foresight if wants_forecast(subject) else None
    lived = replay_policy(world, subject, foresight)
    rows = {row.name: row for row in board.policies}
    verdict = judge(rows["ours"], rows["ours-no-forecast"], rows["hpa"], board.max_overload)
    as_written = OwnPolicy(
        outcome(world, lived.counts, lived.serving),
        outcome(world, lived.reactive, serving(lived.reactive, world.start_steps)),
        float(world.scored[world.played].sum()) * STEP_SECONDS / 3600,
    )
    return Backtest(subject, world, board, lived, as_written, verdict)


def _outcome_json(found: ServiceOutcome) -> dict[str, float]:
    return {
        "replicaHours": found.paid * STEP_SECONDS / 3600,
        "overload": found.overload,
        "actionsPerHour": found.actions_per_hour,
    }
