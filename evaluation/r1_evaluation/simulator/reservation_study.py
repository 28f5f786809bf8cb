"""Study: the effect of the operator's seat reservations on gateways that reserve seats themselves.

Each case runs with and without reservations on the same arrivals, while batch work fills idle
seats: one gateway, several that share the seats, waves of urgent load, and a pool that loses half
of its replicas repeatedly. The figure is the share of Q1 that waited for a seat for longer than
half of its SLO target, beside the utilization.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_common.seat_reservation import WAIT_SHARE
from r1_evaluation.simulator.arrivals import Arrival, batch, interactive
from r1_evaluation.simulator.operator_reservations import TICK_SECONDS, Operator
from r1_evaluation.simulator.simulation import Pool, PoolOutcome, ScheduledReplicas
from r1_evaluation.simulator.study import WARM_UP_SHARE, StudyParameters, interactive_factor
from r1_evaluation.traces.load import RecordedRequest
from r1_operator.api.scaling import ClassName

BATCH_RATE = 12.8
"""Requests a second: more than eight replicas can take beside the recordings."""
SHARED_BY = 4
FALL_EVERY = 240.0
FALL_SECONDS = 120.0
LEFT_SHARE = 0.5
LONG_NOTICE = 30.0
SLO_SECONDS = 0.5
WAVE_EVERY = 300.0
WAVE_SECONDS = 100.0
BETWEEN_WAVES = 0.1
RESERVATIONS = ("none", "operator", "perfect-forecast")


@dataclass(frozen=True, slots=True)
class Case:
    """Number of gateways, whether replicas or urgent load vary, and the notice of a scale-down."""

    name: str
    gateways: int = 1
    falls: bool = False
    waves: bool = False
    notice: float = TICK_SECONDS


CASES = (
    Case("one gateway"),
    Case(f"{SHARED_BY} gateways", SHARED_BY),
    Case("waves", waves=True),
    Case(f"waves, {SHARED_BY} gateways", SHARED_BY, waves=True),
    Case("replicas go", falls=True),
    Case(f"replicas go, {LONG_NOTICE:.0f} s notice", falls=True, notice=LONG_NOTICE),
    Case(f"replicas go, {SHARED_BY} gateways", SHARED_BY, falls=True),
)


@dataclass(frozen=True, slots=True)
class Load:
    """The interactive recording at a factor, and batch work per second."""

    site: StudyParameters
    factor: float
    batch_rate: float


def play(load: Load, case: Case, reservations: str, seed: int) -> PoolOutcome:
    """Run one load in one case."""
    site = load.site
    seconds = site.seconds
    arrivals = [
        *interactive(site.recorded, load.factor, site.urgent_share, seed),
        *batch(site.recorded, load.batch_rate, seconds, seed + 1),
    ]
    if case.waves:
        arrivals = _in_waves(arrivals, seed)
    arrivals.sort(key=lambda arrival: arrival.at)
    first, *others = DEFAULT_POLICIES
    operator = None
    if reservations != "none":
        slo_targets = {ClassName.Q1: SLO_SECONDS}
        operator = Operator(slo_targets, perfect_forecast=reservations == "perfect-forecast")
    pool = Pool(
        site.replicas,
        site.speed,
        (replace(first, time_to_first_token_seconds=SLO_SECONDS), *others),
        fifo=False,
        gateways=case.gateways,
        operator=operator,
        replica_schedule=_replica_schedule(site.replicas, case.notice, seconds)
        if case.falls
        else (),
        seed=seed,
    )
    return pool.run(arrivals, warm_up=WARM_UP_SHARE * seconds, seconds=seconds)


def late(outcome: PoolOutcome) -> tuple[int, int]:
    """Return (Q1 requests that waited too long for a seat, all Q1 requests with a seat)."""
    waits = outcome.of(PriorityClass.Q1).seat_waits
    return sum(wait > WAIT_SHARE * SLO_SECONDS for wait in waits), len(waits)


def first_part(recorded: Sequence[RecordedRequest], seconds: float) -> tuple[RecordedRequest, ...]:
    """Return the start of the recording."""
    end = recorded[0].at + seconds
    return tuple(one for one in recorded if one.at <= end)


def load_of(
    recorded: Sequence[RecordedRequest],
    seconds: float,
    replicas: int,
    batch_rate: float = BATCH_RATE,
) -> Load:
    """Return the recording's first `seconds` at the highest feasible factor, with batch work."""
    kept = first_part(recorded, seconds)
    site = StudyParameters(kept, replicas=replicas)
    start = replace(site, recorded=first_part(recorded, seconds / 2))
    return Load(site, interactive_factor(start, seed=0), batch_rate)


def _in_waves(arrivals: Sequence[Arrival], seed: int) -> list[Arrival]:
    """Of the urgent ones a part only, but for `WAVE_SECONDS` in every `WAVE_EVERY`."""
    rng = random.Random(seed)  # noqa: S311 (a simulation, no secret)
    return [
        one
        for one in arrivals
        if one.klass is not PriorityClass.Q1
        or one.at % WAVE_EVERY < WAVE_SECONDS
        or rng.random() < BETWEEN_WAVES
    ]


def _replica_schedule(
    replicas: int, notice: float, seconds: float
) -> tuple[ScheduledReplicas, ...]:
    left = max(1, round(LEFT_SHARE * replicas))
    found: list[ScheduledReplicas] = []
    at = FALL_EVERY
    while at < seconds:
        found += [
            ScheduledReplicas(at, left, notice),
            ScheduledReplicas(at + FALL_SECONDS, replicas, 0.0),
        ]
        at += FALL_EVERY
    return tuple(found)
