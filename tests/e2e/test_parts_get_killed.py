"""SIGKILL to one component after the other under load: serving continues, and every failure is reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e_helpers import MODELS, deployment, kill, load, pids, ready, wait_for
from r1_cluster.providers import Cluster
from r1_demo.load.arrivals import Caps, Curve, Share, draw
from r1_demo.load.load_generator import RequestOutcome
from r1_demo.setup.installation import NAMESPACE, Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CONVERGED = 30.0  # seconds after a kill until the system has recovered


def system_is_ready(installation: Installation) -> bool:
    listed = installation.get("deployments", "-n", NAMESPACE)["items"]
    return all(
        each["status"].get("readyReplicas", 0) == each["spec"]["replicas"] for each in listed
    )


def test_serving_continues_while_each_component_is_killed(
    installation: Installation,
    cluster: Cluster,
    demo_resource: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    installation.apply(demo_resource("survivor", replicas=2))
    ready(installation, "survivor", 180)
    pods_before = {
        pod["metadata"]["uid"]
        for pod in installation.get("pods", "-n", MODELS, "-l", "deepseek.ai/r1inference=survivor")[
            "items"
        ]
    }
    seconds = 4 * 45
    steady = Curve(1.0, (1.5,) * seconds, (True,) * seconds)
    shares = (Share("survivor", "Q1", 0.5), Share("survivor", "Q3", 0.5))
    arrivals = draw(steady, shares, {0.0: 4, 1.0: 16}, {0.0: 8, 1.0: 24}, Caps(24, 24), seed=3)

    killed_at: dict[str, float] = {}
    started = time.time()
    with load(installation.gateway_url, arrivals, tmp_path, started) as offered:
        for program in ("r1_operator", "r1_forecasting", "r1_runtime.serve", "r1_gateway"):
            time.sleep(6)
            victims = pids(cluster, program)
            assert victims, f"no process of {program} runs"
            kill(victims[0])
            killed_at[program] = time.time() - started
            time.sleep(4)
            wait_for(f"all is ready again after {program}", 60, lambda: (
                system_is_ready(installation)
                and deployment(installation, "survivor")["status"].get("readyReplicas") == 2
            ))  # fmt: skip
            took = time.time() - started - killed_at[program]
            print(f"{program}: killed at {killed_at[program]:.0f} s, recovered after {took:.0f} s")
        outcomes = offered.finish()

    assert len(outcomes) == len(arrivals), "a request vanished"
    silent = [each for each in outcomes if each.failed and not (each.status or each.error)]
    assert not silent

    def failures(kinds: tuple[str, ...]) -> list[RequestOutcome]:
        return [
            each for each in outcomes
            if each.failed and any(0 <= each.at - killed_at[kind] + 2 <= CONVERGED for kind in kinds)
        ]  # fmt: skip

    # Neither the operator nor the forecaster is in the path of a request.
    gateway, model = killed_at["r1_gateway"], killed_at["r1_runtime.serve"]
    elsewhere = [
        each for each in outcomes
        if each.failed
        and not -15 <= each.at - gateway <= CONVERGED
        and not -15 <= each.at - model <= CONVERGED
    ]  # fmt: skip
    assert not elsewhere, elsewhere[:3]
    # A killed model pod fails at most the requests that it was computing.
    assert len([each for each in failures(("r1_runtime.serve",)) if each.at < gateway - 15]) <= 8
    assert [each for each in outcomes if each.completed and each.at > gateway + CONVERGED / 2]

    pods_after = {
        pod["metadata"]["uid"]
        for pod in installation.get("pods", "-n", MODELS, "-l", "deepseek.ai/r1inference=survivor")[
            "items"
        ]
    }
    assert pods_after == pods_before, "killing the operator replaced model pods"
    installation.kubectl("delete", "r1", "survivor", "-n", MODELS)
