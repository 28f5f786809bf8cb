"""Study: utilization of a pool at which Q1 still meets its SLO, with and without priorities.

Interactive load (Q1, Q2) is recorded and constant. Batch work (Q3) is raised until less than 99.9
% of Q1 have their first token in time. The figure is the highest mean share of seats in use
before that. Three admissions have the same arrivals: *none* (one queue, first come first served),
*order* (Q1 before Q2 before Q3, no reserved seats, engines without classes) and *gateway*
(`r1_gateway` and the runtime: order, ageing, reserved seats, urgent prompts first).

The SLO target is the time of the slowest prompt on an idle replica plus one second of waiting: a
target that no pool can meet would show nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, ClassPolicy, PriorityClass
from r1_evaluation.simulator.arrivals import Arrival, batch, interactive
from r1_evaluation.simulator.engine import EngineSpeed
from r1_evaluation.simulator.simulation import Pool, PoolOutcome
from r1_evaluation.traces.load import RecordedRequest

WAITING_SECONDS = 1.0
ATTAINED = 0.999
WARM_UP_SHARE = 0.1
ADMISSIONS = ("none", "order", "gateway")


@dataclass(frozen=True, slots=True)
class StudyParameters:
    """A pool and its interactive load."""

    recorded: tuple[RecordedRequest, ...]
    replicas: int = 8
    speed: EngineSpeed = field(default_factory=EngineSpeed)
    interactive_share: float = 0.7
    urgent_share: float = 0.5

    @property
    def seconds(self) -> float:
        """The recording's length."""
        return self.recorded[-1].at - self.recorded[0].at

    @property
    def slo_seconds(self) -> float:
        """Q1's SLO target for time to first token, seconds."""
        longest = max(one.prompt_tokens for one in self.recorded)
        return self.speed.alone_seconds(longest) + WAITING_SECONDS

    def policies(self, admission: str) -> tuple[ClassPolicy, ...]:
        """The classes; an SLO target only where it has an effect."""
        first = DEFAULT_POLICIES[PriorityClass.Q1]
        if admission == "gateway":
            first = replace(first, time_to_first_token_seconds=self.slo_seconds)
        return (first, *DEFAULT_POLICIES[1:])


@dataclass(frozen=True, slots=True)
class Level:
    """One run: how much batch was offered (requests/s), and what came of it."""

    batch_rate: float
    outcome: PoolOutcome


def run(
    site: StudyParameters, admission: str, factor: float, batch_rate: float, seed: int
) -> PoolOutcome:
    """Play one load through one admission."""
    arrivals: list[Arrival] = [
        *interactive(site.recorded, factor, site.urgent_share, seed),
        *batch(site.recorded, batch_rate, site.seconds, seed + 1),
    ]
    arrivals.sort(key=lambda arrival: arrival.at)
    pool = Pool(
        site.replicas,
        site.speed,
        site.policies(admission),
        fifo=admission == "none",
        engine_order=admission == "gateway",
    )
    return pool.run(arrivals, warm_up=WARM_UP_SHARE * site.seconds, seconds=site.seconds)


def interactive_factor(site: StudyParameters, seed: int) -> float:
    """How often to repeat the recording: a share of what one queue can take without batch work."""
    low, high = 0.01, 16.0
    for _ in range(8):
        middle = (low * high) ** 0.5
        kept = _keeps(site, run(site, "none", middle, 0.0, seed))
        low, high = (middle, high) if kept else (low, middle)
    return low * site.interactive_share


def _keeps(site: StudyParameters, outcome: PoolOutcome) -> bool:
    return outcome.of(PriorityClass.Q1).slo_attainment(site.slo_seconds) >= ATTAINED


def highest(
    site: StudyParameters, admission: str, factor: float, seed: int, steps: int = 8
) -> Level | None:
    """The fullest run that keeps the promise, by bisection of the batch rate; None where none does."""
    without = run(site, admission, factor, 0.0, seed)
    if not _keeps(site, without):
        return None
    best, low, high = Level(0.0, without), 0.0, _saturating(site, factor, seed)
    for _ in range(steps):
        rate = (low + high) / 2
        outcome = run(site, admission, factor, rate, seed)
        if not _keeps(site, outcome):
            high = rate
            continue
        low = rate
        if outcome.utilisation > best.outcome.utilisation:
            best = Level(rate, outcome)
    return best


def _saturating(site: StudyParameters, factor: float, seed: int) -> float:
    """A batch rate that surely fills the pool."""
    rate = 0.05
    while run(site, "order", factor, rate, seed).utilisation < 0.97 and rate < 1000:
        rate *= 2
    return rate


def study(
    recorded: Sequence[RecordedRequest], site: StudyParameters, seed: int
) -> dict[str, Level | None]:
    """The highest level per admission, on the same arrivals."""
    site = replace(site, recorded=tuple(recorded))
    factor = interactive_factor(site, seed)
    return {admission: highest(site, admission, factor, seed) for admission in ADMISSIONS}
