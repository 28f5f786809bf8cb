"""The policies by name: those that `R1Backtest` offers, and the rest for `r1 leaderboard`."""

from __future__ import annotations

from functools import partial

from r1_evaluation.baselines import dynamo_load
from r1_evaluation.baselines.contrib import phpa_holt_winters
from r1_evaluation.policies import contrib, peers, production
from r1_evaluation.policies.inputs import Policy

PUBLIC_POLICIES: dict[str, Policy] = {
    "ours": production.ours,
    "ours-no-forecast": production.ours_no_forecast,
    "hpa": peers.hpa,
    "keda": peers.keda,
    "knative": peers.knative,
    "kubeai": peers.kubeai,
    "dynamo": partial(peers.dynamo_reactive, dynamo_load.threshold_step, dynamo_load.filled),
    "ray-serve": peers.ray,
    "static": peers.static,
    "oracle": production.oracle,
}
"""Policies of `r1 backtest` and of `R1Backtest.spec.policies`."""

CONTRIB_POLICIES: dict[str, Policy] = {
    "last-value": production.last_value,
    "seasonal-naive": contrib.seasonal_naive,
    "threshold-0.6": production.threshold,
    "hpa-without-behavior": contrib.hpa_without_behavior,
    "crane": contrib.crane_dsp,
    "phpa-linear": contrib.phpa_linear,
    "phpa-holt-winters": partial(contrib.phpa_with_day_season, phpa_holt_winters.time_order_model),
    "phpa-holt-winters-upstream": partial(
        contrib.phpa_with_day_season, phpa_holt_winters.upstream_order_model
    ),
    "wva-v1": contrib.wva_v1,
    "wva-v2": contrib.wva_v2,
    "keda-queue": contrib.keda_queue,
    "aibrix-apa": contrib.aibrix_apa,
    "aibrix-apa-upstream": partial(contrib.aibrix_apa, upstream=True),
    "aibrix-kpa": contrib.aibrix_kpa,
    "aibrix-kpa-upstream": partial(contrib.aibrix_kpa, upstream=True),
    "dynamo-load-in-proportion": partial(
        peers.dynamo_reactive, dynamo_load.threshold_step, dynamo_load.in_proportion
    ),
    "dynamo-latency": partial(peers.dynamo_reactive, dynamo_load.latency_step, dynamo_load.filled),
    "dynamo-latency-in-proportion": partial(
        peers.dynamo_reactive, dynamo_load.latency_step, dynamo_load.in_proportion
    ),
    "dynamo-hybrid-constant": partial(contrib.dynamo_hybrid, "constant"),
    "dynamo-hybrid-kalman": partial(contrib.dynamo_hybrid, "kalman"),
    "dynamo-hybrid-arima": partial(contrib.dynamo_hybrid, "arima"),
    "dynamo-hybrid-prophet": partial(contrib.dynamo_hybrid, "prophet"),
    "dynamo-constant": partial(contrib.dynamo_throughput, "constant"),
    "dynamo-kalman": partial(contrib.dynamo_throughput, "kalman"),
    "dynamo-arima": partial(contrib.dynamo_throughput, "arima"),
    "dynamo-prophet": partial(contrib.dynamo_throughput, "prophet"),
}
"""Policies of `r1 leaderboard` alone."""

POLICIES: dict[str, Policy] = PUBLIC_POLICIES | CONTRIB_POLICIES
