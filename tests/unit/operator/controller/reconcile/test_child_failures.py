"""Children that cannot be read or written: the status has the message of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fake_api_server import HANG, FakeApiServer, Fault, client_of, fake_api_server, status_error
from r1_common.clock import AnchoredClock
from r1_operator.controller.reconcile import reconciler
from r1_operator.controller.reconcile.reconciler import Reconciler
from r1_operator.kube.client import Api
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import POD, R1INFERENCE, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.scaling.decide import fixed
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.status.resource_status import plan_status

KEY = Key("ns", "r1")
R1 = R1INFERENCE.path(*KEY)
TYPED = status_error(
    500,
    "failed to create typed patch object (ns/r1; apps/v1, Kind=Deployment): "
    '.spec.template.spec.containers[name="engine"].imagePullPolcy: field not declared in schema',
)
WRONG_TYPE = status_error(
    500,
    "failed to create typed patch object (ns/r1; apps/v1, Kind=Deployment): "
    ".spec.template.spec.terminationGracePeriodSeconds: expected numeric (int or float), got string",
)

REFUSALS = [
    pytest.param(TYPED, "imagePullPolcy: field not declared in schema", "spec.template", id="typo"),
    pytest.param(WRONG_TYPE, "expected numeric", "spec.template", id="wrong type"),
    pytest.param(
        status_error(422, 'Deployment.apps "r1" is invalid: spec.x: Required value', "Invalid"),
        "Required value",
        "Correct the spec",
        id="invalid",
    ),
    pytest.param(
        status_error(422, 'ConfigMap "r1" is invalid: data: Forbidden: field is immutable'),
        "field is immutable",
        "Delete this object",
        id="immutable field",
    ),
    pytest.param(
        status_error(403, 'services "r1" is forbidden: exceeded quota: q', "Forbidden"),
        "exceeded quota: q",
        "Raise the ResourceQuota",
        id="quota",
    ),
    pytest.param(
        status_error(
            403, 'x is forbidden: User "system:serviceaccount:a:b" cannot patch x', "Forbidden"
        ),
        "cannot patch",
        "Grant the operator's ServiceAccount",
        id="no right",
    ),
    pytest.param(
        status_error(400, 'admission webhook "p.io" denied the request: no'),
        "denied the request: no",
        "policy",
        id="policy, 400",
    ),
    pytest.param(
        status_error(409, 'admission webhook "p.io" denied the request: taken'),
        "denied the request: taken",
        "policy",
        id="policy, 409",
    ),
    pytest.param(
        status_error(500, 'admission webhook "p.io" denied the request: odd'),
        "denied the request: odd",
        "policy",
        id="policy, 500",
    ),
    pytest.param(
        status_error(404, 'admission webhook "p.io" denied the request: lost'),
        "denied the request: lost",
        "policy",
        id="policy, 404",
    ),
    pytest.param(
        status_error(413, "Request entity too large: limit is 3145728", "RequestEntityTooLarge"),
        "entity too large",
        "Shorten spec.template",
        id="too large",
    ),
    pytest.param(
        status_error(
            403, "unable to create new content in namespace ns because it is being terminated"
        ),
        "being terminated",
        "namespace is being deleted",
        id="namespace goes",
    ),
]
FAILURES = [
    pytest.param(status_error(503, "apiserver is shutting down"), "shutting down", id="503"),
    pytest.param(status_error(429, "too many requests"), "too many requests", id="429"),
    pytest.param((502, b"<html>bad gateway</html>"), "bad gateway", id="a proxy's 502"),
    pytest.param((200, b"<html>login</html>"), "not a JSON object", id="a proxy's 200"),
    pytest.param((200, b"{}"), "metadata", id="an object without metadata"),
    pytest.param(status_error(409, "object has been modified", "Conflict"), "modified", id="409"),
    pytest.param(status_error(404, "the server could not find it", "NotFound"), "find", id="404"),
    pytest.param(
        status_error(500, 'Internal error occurred: failed calling webhook "p.io": timeout'),
        "failed calling webhook",
        id="a webhook that does not answer",
    ),
    pytest.param(HANG, "TimeoutError", id="no answer"),
]
PLURALS = ["deployments", "services", "poddisruptionbudgets", "configmaps", "servicemonitors"]


class World:
    """A reconciler, its stores and its clock, with an in-process API server."""

    def __init__(self, server: FakeApiServer, api: Api) -> None:
        self.server = server
        self.events: list[EventSpec] = []
        self.stores = Stores()
        self.now = 1_800_000_000.0
        self.elapsed = 0.0
        scaling: Any = self
        self.reconciler = Reconciler(
            api,
            self.stores,
            scaling,
            defaults=Defaults(runtime_image="runtime:1"),
            has_service_monitors=lambda: True,
            enqueue=lambda key: None,
            emit=self.events.append,
            metrics=OperatorMetrics(),
            clock=AnchoredClock(
                wall=lambda: self.now + self.elapsed, monotonic=lambda: self.elapsed
            ),
        )

    warming_up = False

    def register(self, key: Key, resource: Any) -> None:
        """The interface of the scaling loop."""
        self.decision = fixed(resource.spec.replicas, resource.spec.replicas, self.now)

    def current_decision(self, key: Key) -> Any:
        """The count of spec.replicas."""
        return self.decision

    def forget(self, key: Key) -> None:
        """The interface of the scaling loop."""

    def loads(self, key: Key) -> dict[str, float]:
        """The interface of the scaling loop."""
        return {}

    def make(self, spec: Json, status: Json | None = None) -> None:
        """Create or change the resource in the store, as its watch does."""
        known = self.server.objects.get(R1, {})
        obj = {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": KEY.name},
            "spec": spec,
            "status": status if status is not None else known.get("status", {}),
        }
        self.stores.put(R1INFERENCE, self.server.put(R1, obj))

    def pod(self, *, ready: bool, version: int = 1) -> Json:
        """A model pod in the store, as its watch adds it."""
        stamp = "2027-01-15T07:59:00Z"
        truth = "True" if ready else "False"
        pod = {
            "metadata": {
                "name": "r1-1",
                "namespace": KEY.namespace,
                "uid": "p",
                "resourceVersion": str(version),
                "creationTimestamp": stamp,
                "labels": {"deepseek.ai/r1inference": KEY.name},
            },
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": truth, "lastTransitionTime": stamp}],
            },
        }
        self.stores.put(POD, pod)
        return pod

    async def reconcile(self, rounds: int = 1, step: float = 31.0) -> float | None:
        """Reconcile several times, with time for the backoff in between."""
        again = None
        for _ in range(rounds):
            again = await self.reconciler.reconcile(KEY, 0.0)
            self.elapsed += step
        return again

    def condition(self, kind: str) -> Json:
        """A condition of the stored status; {} if it is absent."""
        conditions = self.server.objects[R1]["status"].get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), {})

    def only(self, plural: str, fault: Fault, methods: str = "PATCH") -> None:
        """Fail the requests for one kind of child."""

        def answer(method: str, path: str) -> Fault | None:
            return fault if f"/{plural}" in path and method in methods else None

        self.server.fault = answer


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A client with a short timeout for a hanging server."""
    async with fake_api_server() as server, client_of(server, timeout_seconds=0.5) as api:
        yield World(server, api)


async def test_the_status_is_planned_once_per_reconcile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Json] = []

    def counted(*args: Any, **more: Any) -> Json:
        planned.append(plan_status(*args, **more))
        return planned[-1]

    monkeypatch.setattr(reconciler, "plan_status", counted)
    world.make({"replicas": 1})
    await world.reconcile()
    assert len(planned) == 1, "after the children were created"
    assert world.server.objects[R1]["status"] == planned[0], "the planned status is the written one"
    world.only("services", TYPED)
    world.make({"replicas": 2, "runtime": {"maxConcurrentSequences": 3}})
    await world.reconcile()
    assert len(planned) == 2, "with a write and a rejected child"
    await world.reconcile()
    assert len(planned) == 3, "without a write"


@pytest.mark.parametrize("plural", PLURALS)
@pytest.mark.parametrize(("fault", "words", "remedy"), REFUSALS)
async def test_a_rejected_child_becomes_a_condition_and_an_event_at_once(
    world: World, plural: str, fault: Fault, words: str, remedy: str
) -> None:
    world.only(plural, fault)
    world.make({"replicas": 1})
    await world.reconcile()
    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "ChildRejected")
    assert words in degraded["message"]
    assert remedy in degraded["message"]
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Progressing")["status"] == "False"
    assert [one.note for one in world.events if one.warning] == [degraded["message"]]
    others = [one for one in PLURALS if one != plural]
    assert all(world.server.sent("PATCH", f"/{one}/") == 1 for one in others)
    assert world.server.sent("PATCH", f"/{plural}/") == 1, "what is refused is not repeated at once"


@pytest.mark.parametrize("plural", ["deployments", "configmaps"])
@pytest.mark.parametrize(("fault", "words"), FAILURES)
async def test_a_repeated_child_failure_becomes_a_condition(
    world: World, plural: str, fault: Fault, words: str
) -> None:
    world.only(plural, fault)
    world.make({"replicas": 1})
    await world.reconcile()
    assert world.condition("Ready")["reason"] == "Applying", "the first failure may pass"
    await world.reconcile()
    degraded = world.condition("Degraded")
    assert degraded["reason"] == "ChildNotApplied"
    assert words in degraded["message"]
    world.server.fault = lambda method, path: None
    await world.reconcile()
    assert world.condition("Degraded") == {}


@pytest.mark.parametrize("plural", PLURALS)
@pytest.mark.parametrize("fault", [TYPED, status_error(503, "busy"), HANG])
async def test_the_status_follows_a_lost_pod_while_a_child_fails(
    world: World, plural: str, fault: Fault
) -> None:
    world.make({"replicas": 1})
    world.pod(ready=True)
    await world.reconcile()
    assert world.condition("Available")["status"] == "True"
    world.only(plural, fault)
    metadata = {"annotations": {"note": "x"}}
    world.make({"replicas": 1, "model": {"aliases": ["a"]}, "template": {"metadata": metadata}})
    for kind in world.stores.children.values():
        for stored in kind.objects.values():
            stored.synced_hash = ""
    world.stores.remove(POD, world.pod(ready=True))
    await world.reconcile()
    assert world.condition("Available")["status"] == "False"
    assert world.condition("Ready")["status"] == "False"
    assert world.server.objects[R1]["status"]["availableReplicas"] == 0


@pytest.mark.parametrize("plural", PLURALS)
@pytest.mark.parametrize(
    "fault", [status_error(403, "x is forbidden"), status_error(500, "x"), HANG]
)
async def test_an_unreadable_child_is_not_written_but_the_status_is(
    world: World, plural: str, fault: Fault
) -> None:
    world.only(plural, fault, methods="GET")
    world.make({"replicas": 1})
    world.pod(ready=True)
    await world.reconcile(2)
    assert world.condition("Degraded")["status"] == "True"
    assert world.condition("Available")["status"] == "True"
    assert world.server.sent("PATCH", f"/{plural}/") == 0
    world.server.fault = lambda method, path: None
    await world.reconcile(2)
    assert world.condition("Degraded") == {}
    assert world.server.sent("PATCH", f"/{plural}/") == 1


async def test_an_unread_deployment_keeps_the_stored_count(world: World) -> None:
    world.only("deployments", status_error(500, "x"), methods="GET")
    world.make({"replicas": 1}, {"desiredReplicas": 7})
    world.current_decision = lambda key: None  # type: ignore[method-assign]
    await world.reconcile(2)
    assert world.server.objects[R1]["status"]["desiredReplicas"] == 7


async def test_a_rejected_child_is_not_resent_at_every_event(world: World) -> None:
    world.only("deployments", TYPED)
    world.make({"replicas": 1})
    again = await world.reconcile(100, step=0.01)
    assert again is not None
    assert world.server.sent("PATCH", "/deployments/") == 2, "100 events within a second"
    before = world.server.sent("PATCH", "/deployments/")
    await world.reconcile(60, step=1.0)
    assert world.server.sent("PATCH", "/deployments/") - before <= 8, "a minute of events"
    assert world.server.sent("PATCH", "/status") == 1, "the words stay the same"


async def test_a_changed_manifest_is_sent_at_once(world: World) -> None:
    world.only("deployments", TYPED)
    world.make({"replicas": 1})
    await world.reconcile(step=0.0)
    world.server.fault = lambda method, path: None
    world.make({"replicas": 1, "template": {"metadata": {"annotations": {"a": "b"}}}})
    await world.reconcile(step=0.0)
    assert world.condition("Degraded") == {}


async def test_each_rejected_field_emits_an_event(world: World) -> None:
    world.only("deployments", TYPED)
    world.make({"replicas": 1})
    await world.reconcile()
    world.only("deployments", WRONG_TYPE)
    world.make({"replicas": 1, "template": {"metadata": {"annotations": {"a": "b"}}}})
    await world.reconcile()
    assert ["imagePullPolcy" in one.note for one in world.events] == [True, False]


async def test_all_failed_children_are_named_in_the_message(world: World) -> None:
    world.server.fault = lambda method, path: (
        TYPED if method == "PATCH" and not path.startswith("/apis/deepseek.ai") else None
    )
    world.make({"replicas": 1})
    await world.reconcile()
    message = world.condition("Degraded")["message"]
    for name in ("Deployment r1", "Service r1", "PodDisruptionBudget r1", "ConfigMap r1-route"):
        assert name in message


async def test_a_manifest_build_error_becomes_a_condition(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("metadata")

    monkeypatch.setattr("r1_operator.plan.resource_plan.plan_children", broken)
    world.make({"replicas": 1})
    world.pod(ready=True)
    await world.reconcile()
    assert world.condition("Degraded")["reason"] == "ManifestBuildFailed"
    assert "KeyError" in world.condition("Degraded")["message"]
    assert world.condition("Available")["status"] == "True"


async def test_an_invalid_spec_still_gets_a_status(world: World) -> None:
    world.make({"replicas": 1})
    world.pod(ready=True)
    await world.reconcile()
    world.make({"replicas": -1})
    world.stores.remove(POD, world.pod(ready=True))
    await world.reconcile()
    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert "spec.replicas" in world.condition("Degraded")["message"]
    assert world.condition("Available")["status"] == "False"
    assert world.server.sent("DELETE", "/") == 0
    written = world.server.sent("PATCH", "/status")
    await world.reconcile()
    assert world.server.sent("PATCH", "/status") == written
    world.make({"replicas": 1})
    await world.reconcile()
    assert world.condition("Degraded") == {}


async def test_a_failed_status_write_still_emits_an_event(world: World) -> None:
    world.server.fault = lambda method, path: (
        status_error(403, "no")
        if path.endswith("/status")
        else TYPED
        if method == "PATCH" and "/deployments/" in path
        else None
    )
    world.make({"replicas": 1})
    with pytest.raises(Exception, match="no"):
        await world.reconcile()
    assert [one.reason for one in world.events] == ["ChildRejected"]


async def test_failures_of_a_former_child_kind_are_dropped(world: World) -> None:
    served = [True]
    world.reconciler._has_service_monitors = lambda: served[0]
    world.only("servicemonitors", status_error(404, "404 page not found", "NotFound"))
    world.make({"replicas": 1})
    await world.reconcile(2)
    assert world.condition("Degraded")["reason"] == "ChildNotApplied"
    served[0] = False
    await world.reconcile()
    assert world.condition("Degraded") == {}


def test_child_retry_delays_grow_to_30_s() -> None:
    from random import Random

    from r1_operator.controller.reconcile.child_backoff import ChildBackoff, ChildWrite
    from r1_operator.plan.snapshot import WriteError

    backoff = ChildBackoff(rng=Random(1))
    request, refusal = ChildWrite("Service", "apply", "d"), WriteError("Service", "r1", "no")
    delays = [backoff.record_failure(KEY, request, refusal, 0.0) for _ in range(12)]
    assert 0.5 <= delays[0] <= 1.0
    assert all(15.0 <= delay <= 30.0 for delay in delays[6:])
    assert backoff.pause(KEY, request, 1.0) == pytest.approx(delays[-1] - 1.0)
    assert backoff.pause(KEY, request._replace(digest="e"), 1.0) == 0.0
    passing = ChildBackoff(rng=Random(1))
    first = passing.record_failure(
        KEY, request, WriteError("Service", "r1", "busy", temporary=True), 0.0
    )
    assert 0.1 <= first <= 0.2
    backoff.record_success(KEY, request)
    assert backoff.reported(KEY) == ()
    assert backoff.next_retry(KEY, 1.0) is None


async def test_failed_children_are_retried_when_the_server_recovers(
    world: World,
) -> None:
    world.make({"replicas": 1})
    await world.reconcile()
    world.server.fault = lambda method, path: status_error(503, "away")
    world.make({"replicas": 3})
    for _ in range(6):
        with pytest.raises(Exception, match="away"):
            await world.reconcile(step=16.0)
    world.server.fault = lambda method, path: None
    again = await world.reconcile(step=0.3)
    assert again is not None
    assert again < 0.3, "the status could be written again"
    await world.reconcile(step=0.0)
    assert (
        world.server.objects["/apis/apps/v1/namespaces/ns/deployments/r1"]["spec"]["replicas"] == 3
    )
