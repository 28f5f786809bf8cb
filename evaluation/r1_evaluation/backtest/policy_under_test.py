"""The policy under test and the query of its load, from a file, a cluster or flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.scaling import MetricType
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.cli.output import FAILED, NOT_FOUND, USAGE, CommandFailed
from r1_operator.kube.client import Api, KubeApiError
from r1_operator.kube.kinds import R1INFERENCE, Key
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy, policy_of
from r1_operator.sources.forecast import forecast_metric, series_query

RATE_SECONDS = 60
"""Rate window, unless the scrape interval needs a longer one."""

_DEFAULT_SEATS = 8


@dataclass(frozen=True, slots=True)
class PolicyUnderTest:
    """A policy that can be replayed: one load metric with the query of its history.

    `not_replayed` names the metrics that history does not hold; `seats` is of one replica.
    """

    name: str
    query: str
    policy: ScalingPolicy
    seats: int
    not_replayed: tuple[str, ...] = ()

    @property
    def metric(self) -> MetricTarget:
        """The load metric."""
        return self.policy.metrics[0]


def policy_of_resource(
    resource: R1Inference, query: str | None = None, rate_seconds: int = RATE_SECONDS
) -> PolicyUnderTest:
    """Return what can be replayed of a resource; `query` replaces its own.

    `rate_seconds` is the window of its own query's rates.

    Raises CommandFailed for one without autoscaling or without a load that has a history.
    """
    autoscaling = resource.spec.autoscaling
    if autoscaling is None:
        raise CommandFailed(
            f"{resource.key} has no spec.autoscaling: no policy to backtest", FAILED
        )
    policy = policy_of(autoscaling, ceilings_of(resource.spec))
    kind = forecast_metric(policy.metrics)
    if kind is None:
        raise CommandFailed(
            f"{resource.key}: spec.autoscaling.metrics has no load metric with a history. "
            "Add RequestsPerSecond or TokensPerSecond.",
            FAILED,
        )
    chosen = next(metric for metric in policy.metrics if metric.type is kind)
    others = tuple(metric.label for metric in policy.metrics if metric is not chosen)
    key = Key(resource.namespace, resource.name)
    own = series_query(key, autoscaling.forecast, kind, rate_seconds)
    return PolicyUnderTest(
        resource.key,
        query or own,
        replace(policy, metrics=(chosen,)),
        resource.spec.runtime.max_concurrent_sequences,
        others,
    )


def policy_of_query(query: str, capacity: float, most: int) -> PolicyUnderTest:
    """Return a policy of 1 to `most` replicas with a capacity of `capacity` requests/s each."""
    metric = MetricTarget(MetricType.REQUESTS_PER_SECOND, capacity)
    return PolicyUnderTest(query, query, ScalingPolicy(1, most, (metric,)), _DEFAULT_SEATS)


def read_manifest(path: Path) -> R1Inference:
    """Read the one R1Inference of a YAML file.

    Raises CommandFailed: not found (3), or a message that names the wrong field (1).
    """
    try:
        found = [one for one in yaml.safe_load_all(path.read_text()) if one is not None]
    except FileNotFoundError as error:
        raise CommandFailed(f"{path}: no such file", NOT_FOUND) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandFailed(f"{path}: {error}", FAILED) from error
    ours = [one for one in found if isinstance(one, Mapping) and one.get("kind") == "R1Inference"]
    if len(ours) != 1:
        raise CommandFailed(
            f"{path} has {len(ours)} R1Inferences, expected one", USAGE if ours else NOT_FOUND
        )
    return _parsed(ours[0], str(path))


async def fetch_resource(namespace: str, name: str) -> R1Inference:
    """Read a resource from the cluster of the current kubeconfig."""
    try:
        async with await Api.connect() as api:
            found = await api.get(R1INFERENCE, namespace, name)
    except KubeApiError as error:
        raise CommandFailed(
            f"{error} (a manifest file or --query works without a cluster)"
        ) from error
    if found is None:
        raise CommandFailed(f"R1Inference {namespace}/{name} not found", NOT_FOUND)
    return _parsed(found, f"{namespace}/{name}")


def _parsed(manifest: Mapping[str, Any], where: str) -> R1Inference:
    try:
        return parse(manifest)
    except Invalid as error:
        raise CommandFailed(f"{where}: {error}") from error
