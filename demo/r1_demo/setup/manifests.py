"""Manifests of the demo's two resources: `demo-chat` with priority classes, `demo-notes` without."""

from __future__ import annotations

from typing import Any

from r1_demo.load.arrivals import Share

NAMESPACE = "default"
CHAT, NOTES, ANSWER = "demo-chat", "demo-notes", "demo-answer"

# Shares of all requests. Half of the chat is Q1.
SHARES = (
    Share(CHAT, "Q1", 0.425),
    Share(CHAT, "Q2", 0.255),
    Share(CHAT, "Q3", 0.17),
    Share(NOTES, None, 0.15),
)
# Ten replicas: with four, rounding up to whole replicas hides the policy's decisions.
MIN_REPLICAS = {CHAT: 2, NOTES: 1}
MAX_REPLICAS = {CHAT: 10, NOTES: 2}
FORECAST_STEPS_PER_SEASON = 120


def share_of(model: str) -> float:
    """Return the share of all requests that one resource receives."""
    return sum(share.share for share in SHARES if share.model == model)


def build_resource(
    name: str,
    capacity: float,
    down_window: float,
    season: float | None,
    *,
    min_replicas: int | None = None,
    seats: int,
    cpu_request: str,
    cpu_limit: str | None,
    memory: str,
) -> dict[str, Any]:
    """Return an R1Inference that serves the bundled demo model with `capacity` requests/s each.

    `season` is the length of a day in seconds; None disables the forecast. `min_replicas`
    defaults to `MIN_REPLICAS`.
    """
    limits = {} if cpu_limit is None else {"limits": {"cpu": cpu_limit}}
    spec: dict[str, Any] = {
        "replicas": 1,
        "model": {"source": {"bundled": "demo"}},
        "runtime": {
            "maxModelLength": 256,
            "maxConcurrentSequences": seats,
            "kvCacheBlocks": 256,
        },
        "resources": {"requests": {"cpu": cpu_request, "memory": memory}, **limits},
        "autoscaling": {
            "minReplicas": MIN_REPLICAS[name] if min_replicas is None else min_replicas,
            "maxReplicas": MAX_REPLICAS[name],
            "targetUtilizationPercent": 70,
            "metrics": [{"type": "RequestsPerSecond", "target": f"{capacity:.3f}"}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": round(down_window)}},
            "forecast": _forecast(season),
        },
        "rollout": {"drainSeconds": 30},
    }
    if name == CHAT:
        spec["priority"] = {
            "defaultClass": "Q2",
            "classes": [
                {"name": "Q1", "maxQueueLength": 64, "maxQueueSeconds": 30},
                {"name": "Q2", "maxQueueLength": 64, "maxQueueSeconds": 60, "ageAfterSeconds": 20},
                {"name": "Q3", "maxQueueLength": 32, "maxQueueSeconds": 90, "ageAfterSeconds": 60},
            ],
        }
    return {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"r1-demo": "true"}},
        "spec": spec,
    }


def build_answering_resource(memory: str) -> dict[str, Any]:
    """Return an R1Inference of the real small model, for one question."""
    return {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": ANSWER, "namespace": NAMESPACE, "labels": {"r1-demo": "true"}},
        "spec": {
            "replicas": 1,
            "model": {"source": {"bundled": "smollm2"}},
            "runtime": {"maxModelLength": 1024, "maxConcurrentSequences": 2},
            "resources": {"requests": {"cpu": "100m", "memory": memory}},
        },
    }


def _forecast(season: float | None) -> dict[str, Any]:
    if season is None:
        return {"activation": "Never"}
    step = forecast_step(season)
    return {
        "activation": "RequireBacktest",
        "quantilePercent": 90,
        "seasonSeconds": round(season),
        "stepSeconds": step,
        "horizonSeconds": max(60, 12 * step),
        "historySeconds": round(season * 14),
    }


def forecast_step(season: float) -> int:
    """Return the forecaster's step for a season, in whole seconds."""
    return max(1, round(season / FORECAST_STEPS_PER_SEASON))
