"""Fixtures for plans: a resource, its children as in a cluster, and pods."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from r1_operator.api.v1 import R1Inference, parse
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.snapshot import Defaults, Observed, Pod, read_pod
from r1_operator.plan.workload import plan_children

NOW = 1_800_000_000.0
UID = "f0a6f3a0-0000-4000-8000-000000000001"

MakeResource = Callable[..., R1Inference]
MakeObserved = Callable[..., Observed]
MakePod = Callable[..., Pod]
MakeDecision = Callable[..., Decision]


@pytest.fixture
def now() -> float:
    return NOW


@pytest.fixture
def defaults() -> Defaults:
    return Defaults(runtime_image="registry.example/runtime:1")


@pytest.fixture
def resource() -> MakeResource:
    """`resource(spec, status=..., generation=..., annotations=...)`."""

    def make(
        spec: dict[str, Any] | None = None,
        *,
        name: str = "r1",
        status: dict[str, Any] | None = None,
        generation: int = 1,
        annotations: dict[str, str] | None = None,
    ) -> R1Inference:
        return parse(
            {
                "apiVersion": "deepseek.ai/v1",
                "kind": "R1Inference",
                "metadata": {
                    "name": name,
                    "namespace": "team",
                    "uid": UID,
                    "generation": generation,
                    "annotations": annotations or {},
                },
                "spec": spec or {},
                "status": status or {},
            },
            strict=True,
        )

    return make


@pytest.fixture
def pod() -> MakePod:
    """`pod("a", ready=True)`, or with parts of a Pod's status."""

    def make(
        name: str = "r1-1",
        *,
        ready: bool = False,
        phase: str = "Running",
        container: dict[str, Any] | None = None,
        conditions: list[dict[str, Any]] | None = None,
        deleted: bool = False,
        labels: dict[str, str] | None = None,
        init: list[dict[str, Any]] | None = None,
    ) -> Pod:
        stamp = "2027-01-15T07:59:00Z"
        states: dict[str, Any] = {"state": {"running": {"startedAt": stamp}}}
        truth = "True" if ready else "False"
        metadata: dict[str, Any] = {"name": name, "uid": name, "creationTimestamp": stamp}
        if deleted:
            metadata["deletionTimestamp"] = stamp
        status: dict[str, Any] = {
            "phase": phase,
            "conditions": [
                {"type": "Ready", "status": truth, "lastTransitionTime": stamp},
                *(conditions or []),
            ],
            "containerStatuses": [{"name": "engine", **(container or states)}],
        }
        if init is not None:
            status["initContainerStatuses"] = init
        return read_pod({"metadata": {**metadata, "labels": labels or {}}, "status": status})

    return make


@pytest.fixture
def observed(defaults: Defaults) -> MakeObserved:
    """The observed state after the plan for `replicas` was applied, with these `pods`."""

    def make(
        resource: R1Inference,
        *,
        replicas: int | None = None,
        pods: tuple[Pod, ...] = (),
        updated: int | None = None,
        conditions: list[dict[str, Any]] | None = None,
        generation_observed: bool = True,
        **more: Any,
    ) -> Observed:
        if replicas is None:
            return Observed(resource, defaults, pods=pods, **more)
        route, service, budget, deployment = plan_children(resource, defaults, replicas)
        deployment = copy.deepcopy(deployment)
        deployment["metadata"]["generation"] = 3
        living = [pod for pod in pods if not pod.terminating]
        deployment["status"] = {
            "observedGeneration": 3 if generation_observed else 2,
            "updatedReplicas": len(living) if updated is None else updated,
            "conditions": conditions or [],
        }
        children = {
            "route": route,
            "service": service,
            "disruption_budget": budget,
            "deployment": deployment,
        }
        return Observed(resource, defaults, pods=pods, **(children | more))

    return make


@pytest.fixture
def decision() -> MakeDecision:
    """`decision(3, reason=..., mode=...)`."""

    def make(
        replicas: int,
        *,
        reason: DecisionReason = DecisionReason.WITHIN_TARGET,
        message: str = "The load is what it was.",
        mode: DecisionMode = DecisionMode.REACTIVE,
        **more: Any,
    ) -> Decision:
        return Decision(NOW, replicas, replicas, reason, message, mode, **more)

    return make
