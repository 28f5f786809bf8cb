"""Replicas rise before the load: the same ramp with a forecast and without one.

A season is three minutes. Prometheus has eight seasons of a ramp at the same phase as history of two
resources. The ninth season is real load on both. With the forecast, the second pod is Ready before
demand exceeds the capacity of one pod. Without it, the second pod starts after the demand has risen.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e_helpers import MODELS, load, ready, wait_for
from r1_cluster.cluster import LocalCluster
from r1_cluster.monitoring.backfill import prometheus_backfill
from r1_cluster.providers import Cluster
from r1_demo.load.arrivals import Caps, Curve, Share, draw
from r1_demo.setup.backfill import openmetrics
from r1_demo.setup.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SEASON, STEP, SEASONS = 180, 3, 8
CAPACITY = 2.0  # requests per second of one replica, as in the manifest
QUIET, BUSY = 0.3, 2.6
RAMP_FROM, RAMP_TO, RAMP_END = 105, 129, 165
TRIES = 3  # other load on the machine may spoil a season; three in a row are a failure
SHARES = (Share("foresees", None, 0.5), Share("reacts", None, 0.5))


def rate(phase: float) -> float:
    """Requests per second to each of the two resources at a phase of the season."""
    if phase < RAMP_FROM or phase >= RAMP_END:
        return QUIET
    return QUIET + (BUSY - QUIET) * min(1.0, (phase - RAMP_FROM) / (RAMP_TO - RAMP_FROM))


PASSES_AT = RAMP_FROM + (RAMP_TO - RAMP_FROM) * (CAPACITY - QUIET) / (BUSY - QUIET)


def curve(seasons: int) -> Curve:
    """Requests per second to both resources together."""
    rates = tuple(2 * rate(second % SEASON + 0.5) for second in range(seasons * SEASON))
    return Curve(1.0, rates, (True,) * len(rates))


def manifest(build: Callable[..., dict[str, Any]], name: str, activation: str) -> dict[str, Any]:
    forecast = {
        "activation": activation,
        "seasonSeconds": SEASON,
        "stepSeconds": STEP,
        "horizonSeconds": 60,
        "historySeconds": SEASON * SEASONS,
    }
    autoscaling = {
        "minReplicas": 1,
        "maxReplicas": 2,
        "metrics": [{"type": "RequestsPerSecond", "target": CAPACITY}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}},
        "forecast": forecast,
    }
    runtime = {"maxModelLength": 256, "maxConcurrentSequences": 8}
    return build(name, replicas=1, autoscaling=autoscaling, runtime=runtime)


def explained(installation: Installation, name: str, zero: float) -> str:
    """The operator's decisions and their reasons, by second of the season."""
    argv = [str(Path(sys.executable).with_name("r1")), "explain", name, "-n", MODELS, "--last", "200",
            "--json"]  # fmt: skip
    environment = os.environ | {"KUBECONFIG": str(installation.cluster.kubeconfig)}
    answer = subprocess.run(argv, check=False, env=environment, capture_output=True, text=True)
    if answer.returncode:
        return answer.stderr
    lines = [f"{name}:\n"]
    for each in json.loads(answer.stdout)["decisions"]:
        note = each["forecast"] or {"acting": False, "message": "no forecast"}
        lines.append(
            f"  {each['at'] - zero:5.0f} s {each['message']} | {note['acting']} {note['message']}\n"
        )
    return "".join(lines)


def test_forecast_makes_a_pod_ready_before_the_load(
    installation: Installation,
    cluster: Cluster,
    demo_resource: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    assert isinstance(cluster, LocalCluster), (
        "history can be written into the local cluster's Prometheus only"
    )
    names = ("foresees", "reacts")
    installation.apply(*(manifest(demo_resource, name, "Never") for name in names))
    for name in names:
        ready(installation, name, 180)

    past = tmp_path / "past.om"
    now = time.time()
    past.write_text("\n".join(openmetrics(curve(SEASONS), SHARES, MODELS, now, 2.0, seed=7)) + "\n")
    prometheus_backfill(cluster, past)
    # After the backfill: the forecaster finds later history some steps later, in a running season.
    installation.apply(manifest(demo_resource, "foresees", "RequireBacktest"))

    arrivals = draw(
        curve(TRIES), SHARES, {0.0: 4, 1.0: 8}, {0.0: 4, 1.0: 8}, Caps(16, 8), seed=11
    )  # fmt: skip
    lines = []
    with load(installation.gateway_url, arrivals, tmp_path, now) as offered:
        for season in range(TRIES):
            ready_at = second_pods(installation, names, now + season * SEASON)
            lines.append(f"demand passes one pod at {PASSES_AT:.0f} s, second pods {ready_at}\n")
            print(lines[-1])
            if ready_at["foresees"] < PASSES_AT < ready_at["reacts"]:
                break
        else:
            pytest.fail(
                "".join(lines) + "".join(explained(installation, each, now) for each in names)
            )
        outcomes = offered.outcomes()

    assert [outcome for outcome in outcomes if outcome.completed]
    assert not [outcome for outcome in outcomes if outcome.failed]
    installation.kubectl("delete", "r1", *names, "-n", MODELS)


def second_pods(
    installation: Installation, names: tuple[str, ...], zero: float
) -> dict[str, float]:
    """From which second of a season on each resource had two pods Ready, to the ramp's end.

    What noise raised before and went down again does not count.
    """
    ready_at = dict.fromkeys(names, math.inf)

    def ended() -> bool:
        phase = time.time() - zero
        for each in installation.get("r1", "-n", MODELS)["items"]:
            name = each["metadata"]["name"]
            if name not in names:
                continue
            enough = each.get("status", {}).get("readyReplicas", 0) >= 2
            ready_at[name] = min(ready_at[name], phase) if enough else math.inf
        return phase > RAMP_END - 2

    wait_for("the season goes by", 2 * SEASON + 60, ended)
    return ready_at
