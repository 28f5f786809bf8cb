"""Print the example outputs of README: `r1 explain` and `r1 backtest` on synthetic load.

Usage: .venv/bin/python tools/doc_examples.py [explain | backtest | write]
`write` puts the output of `r1 explain` into README; a contract test compares the two. The decisions
and the backtest are computed by the product's own code; only the load is synthetic.
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from r1_evaluation.backtest import backtest, text_report
from r1_evaluation.backtest.policy_under_test import policy_of_resource, read_manifest
from r1_evaluation.traces.load import RateTrace
from r1_operator.api.scaling import MetricType
from r1_operator.cli.decision_view import print_decisions
from r1_operator.plan.scaling.decide import ScalingState, decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast

START = 1_700_000_000.0
README = Path(__file__).resolve().parents[1] / "README.md"
SECTION = "## Why this count? `r1 explain`\n"
MANIFEST = """
apiVersion: deepseek.ai/v1
kind: R1Inference
metadata: {name: production-r1}
spec:
  autoscaling:
    minReplicas: 2
    maxReplicas: 40
    metrics:
    - {type: RequestsPerSecond, target: 8}
    forecast: {activation: Never}
"""


def explain() -> str:
    """Return the output of `r1 explain` for a rise that the forecast announces, and its fall.

    The inputs, which follow in the real output, are left out.
    """
    policy = ScalingPolicy(
        min_replicas=2,
        max_replicas=10,
        metrics=(MetricTarget(MetricType.REQUESTS_PER_SECOND, 1000.0),),
    )
    state = ScalingState().started(START - 3600, 2)
    replicas, moved, newest = 2, [], {}
    for second in range(0, 900, 5):
        now = START + second
        rate = 1300.0 if second < 300 else 3400.0 if second < 600 else 1200.0
        peak = 3600.0 if 120 <= second < 600 else 1300.0
        demand = Demand(rate, 0.0, 0.0, 0.0, 0.0)
        forecast = ReceivedForecast(
            model="mixture",
            issued_at=now,
            valid_until=now + 60.0,
            lead_seconds=180.0,
            peak_over_lead={0.5: peak * 0.8, 0.9: peak * 0.98, 0.91: peak},
            points=(),
            gate=ForecastGate(True, "BeatsBaselines", "Beats the last value by 8 %."),
            metric=MetricType.REQUESTS_PER_SECOND,
        )
        inputs = ScalingInputs(replicas, replicas, demand, forecast, 8)
        decision, state = decide(policy, inputs, state, now)
        newest = decision.to_json()
        if decision.replicas != replicas:
            moved.append(newest)
        replicas = decision.replicas
    if not moved or moved[-1] is not newest:
        moved.append(newest)
    out = Console(width=140, record=True, file=io.StringIO())
    print_decisions(out, "default/production-r1", [{**each, "inputs": {}} for each in moved])
    return "\n".join(line.rstrip() for line in out.export_text().splitlines()).strip()


def write() -> None:
    """Put the output of `r1 explain` into README."""
    text = README.read_text()
    before, mark, rest = text.partition(SECTION)
    intro, _, after = rest.partition("```\n")
    _, _, end = after.partition("\n```\n")
    README.write_text(f"{before}{mark}{intro}```\n{explain()}\n```\n{end}")


def run_backtest() -> None:
    """Backtest a reactive policy on ten synthetic days with a daily wave and noise."""
    minutes = np.arange(10 * 1440)
    wave = 90.0 + 70.0 * np.sin(2 * math.pi * (minutes / 1440.0 - 0.3))
    noise = np.random.default_rng(7).normal(1.0, 0.06, len(minutes)).clip(0.5, 1.5)
    trace = RateTrace("production-r1", 60.0, tuple(60.0 * wave * noise), START)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.yaml"
        path.write_text(MANIFEST)
        candidate = policy_of_resource(read_manifest(path))
    print(text_report.backtest_text(backtest.run(trace, candidate, 120.0, (), lambda _: None)))


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["explain", "backtest"]
    if "explain" in chosen:
        print(explain())
    if "backtest" in chosen:
        run_backtest()
    if "write" in chosen:
        write()
