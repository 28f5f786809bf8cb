"""Cost of one scaling decision: CPU time of `decide` over a day of synthetic load.

The operator decides every one or two seconds for every resource, so the CPU time of a decision
bounds the resources per operator. No peer has a comparable function. The bar is 10,000 resources,
each decided every 2 s, on half a core: 100 us a decision.
"""

import argparse
import math
import statistics
import time

from r1_bench.rows import BenchmarkRow, write
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore

ROUNDS = 5
SECONDS = 3_600


def load(second: int) -> float:
    """A day's wave squeezed into an hour, in requests per second."""
    return 3_000 + 2_500 * math.sin(2 * math.pi * second / SECONDS)


def one_round(metrics: int) -> tuple[float, float, float]:
    """CPU microseconds of (recording a sample, reading the window, deciding), mean per decision."""
    types = [MetricType.REQUESTS_PER_SECOND, MetricType.TOKENS_PER_SECOND, MetricType.CONCURRENCY]
    policy = ScalingPolicy(2, 10, tuple(MetricTarget(kind, 1_000.0) for kind in types[:metrics]))
    counters, history, current, offered = CounterStore(), ScalingState(), 2, 0.0
    spent = [0, 0, 0]
    for second in range(0, SECONDS, 2):
        offered += 2 * load(second)
        sample = CounterSample(
            gateway="gateway-0",
            started_at=0.0,
            at=float(second),
            received_at=float(second),
            offered_requests=offered,
            offered_tokens=100 * offered,
            completed=offered,
            rejected=0,
            in_flight=40,
            queued=0,
            buffered=0,
            oldest_wait_seconds=0,
            seats=80,
            ready_endpoints=current,
        )
        marks = [time.process_time_ns()]
        counters.observe(sample)
        marks.append(time.process_time_ns())
        demand = counters.demand(float(second), ("gateway-0",))
        marks.append(time.process_time_ns())
        decision, history = decide(
            policy, ScalingInputs(current, current, demand), history, float(second)
        )
        marks.append(time.process_time_ns())
        current = decision.replicas
        for part in range(3):
            spent[part] += marks[part + 1] - marks[part]
    decisions = SECONDS // 2
    return tuple(part / decisions / 1_000 for part in spent)  # type: ignore[return-value]


def run() -> list[BenchmarkRow]:
    """Medians over rounds, for one metric and for three."""
    rows = []
    for metrics in (1, 3):
        rounds = [one_round(metrics) for _ in range(ROUNDS)]
        observe, read, chosen = (statistics.median(part) for part in zip(*rounds, strict=True))
        what = f"{metrics} metric{'s' if metrics > 1 else ''}"
        rows += [
            BenchmarkRow(f"record a sample, {what}", "us CPU", observe),
            BenchmarkRow(f"read the window, {what}", "us CPU", read),
            BenchmarkRow(f"decide, {what}", "us CPU", chosen),
            BenchmarkRow(f"whole decision, {what}", "us CPU", observe + read + chosen, bar=100.0),
        ]
    return rows


def main() -> None:
    """Measure and write the rows."""
    argparse.ArgumentParser(prog="python -m r1_bench.decision", description=__doc__).parse_args()
    write("decision", run())


if __name__ == "__main__":
    main()
