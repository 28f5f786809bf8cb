"""Jobs that cannot be built, created or read: the status of the R1Backtest has the cause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fake_api_server import HANG, FakeApiServer, Fault, client_of, fake_api_server, status_error
from r1_operator.controller.backtests import BacktestController
from r1_operator.controller.liveness import Liveness
from r1_operator.kube.client import Api
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import R1BACKTEST, R1INFERENCE, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.backtest.observed import BacktestSite

KEY = Key("ns", "november")
PATH = R1BACKTEST.path(*KEY)
AUTOSCALING: Json = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "metrics": [{"type": "RequestsPerSecond", "target": 8}],
}
REFUSED = status_error(403, 'jobs is forbidden: exceeded quota: "jobs"', "Forbidden")
TYPED = status_error(500, "failed to create typed patch object (a/b): .x: field not declared")


class World:
    """The backtest controller, its stores and its clock, with an in-process API server."""

    def __init__(self, server: FakeApiServer, api: Api, template: Json) -> None:
        self.server = server
        self.events: list[EventSpec] = []
        self.elapsed = 0.0
        self.inferences = Stores()
        self.backtests = BacktestController(
            api,
            self.inferences,
            site=BacktestSite("home", "backtest:1", "http://prometheus", template),
            lead=lambda key: None,
            emit=self.events.append,
            liveness=Liveness(silent_seconds=60.0),
            metrics=OperatorMetrics(),
            now=lambda: 1_800_000_000.0 + self.elapsed,
        )
        obj = self._object("R1Inference", "chat", {"autoscaling": AUTOSCALING})
        self.inferences.put(R1INFERENCE, server.put(R1INFERENCE.path("ns", "chat"), obj))

    def _object(self, kind: str, name: str, spec: Json, status: Json | None = None) -> Json:
        return {
            "apiVersion": "deepseek.ai/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
            "status": status or {},
        }

    def make(self, spec: Json | None = None, status: Json | None = None) -> None:
        """Create the R1Backtest in the store, as its watch does."""
        spec = {"inferenceName": "chat"} if spec is None else spec
        obj = self._object("R1Backtest", KEY.name, spec, status)
        self.backtests.event_handler.handle_event(R1BACKTEST, "ADDED", self.server.put(PATH, obj))

    async def reconcile(self, rounds: int = 1, step: float = 31.0) -> float | None:
        """Reconcile several times, with time for the backoff in between."""
        again = None
        for _ in range(rounds):
            again = await self.backtests._reconcile(KEY, 0.0)
            self.elapsed += step
        return again

    def fail(self, methods: str, fault: Fault) -> None:
        """Fail requests of these methods for Jobs."""
        self.server.fault = lambda method, path: (
            fault if "/jobs" in path and method in methods else None
        )

    @property
    def status(self) -> Json:
        """The stored status."""
        stored_status: Json = self.server.objects[PATH]["status"]
        return stored_status

    def condition(self, kind: str) -> Json:
        """A condition of the status; {} if it is absent."""
        conditions = self.status.get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), {})


@pytest.fixture
def template() -> Json:
    """The site's pod template."""
    return {}


@pytest.fixture
async def world(template: Json) -> AsyncIterator[World]:
    """A client with a short timeout for a hanging server."""
    async with fake_api_server() as server, client_of(server, timeout_seconds=0.5) as api:
        yield World(server, api, template)


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (REFUSED, "JobRejected", "exceeded quota"),
        (TYPED, "JobRejected", "field not declared"),
        (status_error(422, "Job is invalid"), "JobRejected", "is invalid"),
        (status_error(404, 'namespaces "home" not found'), "JobNotCreated", "not found"),
        (status_error(503, "shutting down"), "JobNotCreated", "shutting down"),
        ((502, b"<html>"), "JobNotCreated", "html"),
        ((201, b"{}"), "JobNotCreated", "metadata"),
        (HANG, "JobNotCreated", "TimeoutError"),
    ],
)
async def test_a_failed_job_creation_is_reported_and_retried(
    world: World, fault: Fault, reason: str, words: str
) -> None:
    world.make()
    world.fail("POST", fault)
    again = await world.reconcile(step=0.0)
    assert again is not None
    assert again <= 1.0
    assert world.status["phase"] == "Pending"
    assert world.condition("Complete")["reason"] == reason
    assert words in world.condition("Blocked")["message"]
    assert [one.reason for one in world.events] == ["BacktestBlocked"]
    sent = world.server.sent("POST", "/jobs")
    await world.reconcile(20, step=0.001)
    assert world.server.sent("POST", "/jobs") == sent, "not at every event"
    world.server.fault = lambda method, path: None
    world.elapsed += 31.0
    await world.reconcile()
    assert world.status["phase"] == "Running"
    assert world.condition("Blocked") == {}


@pytest.mark.parametrize("fault", [REFUSED, status_error(500, "etcd"), HANG])
async def test_an_unreadable_job_does_not_count_as_lost(world: World, fault: Fault) -> None:
    world.make(status={"phase": "Running", "startedAt": "2027-01-15T07:00:00Z"})
    world.fail("GET", fault)
    await world.reconcile()
    assert world.status["phase"] == "Running"
    assert world.condition("Blocked")["reason"] == "JobNotRead"
    world.server.fault = lambda method, path: None
    await world.reconcile()
    assert world.condition("Failed")["reason"] == "JobLost"


@pytest.mark.parametrize("template", [{"spec": {"containers": "none"}}, {"spec": 5}])
async def test_an_invalid_site_template_is_reported(world: World) -> None:
    world.make()
    await world.reconcile()
    assert world.condition("Complete")["reason"] == "JobBuildFailed"
    assert "must be" in world.condition("Blocked")["message"]


async def test_an_invalid_spec_is_reported(world: World) -> None:
    world.make({"inferenceName": "chat", "sinceSeconds": -1})
    await world.reconcile(2)
    assert world.condition("Complete")["reason"] == "InvalidSpec"
    assert "sinceSeconds" in world.condition("Complete")["message"]
    assert world.server.sent("PATCH", "/status") == 1


async def test_an_undeletable_older_job_does_not_delay_the_status(
    world: World,
) -> None:
    world.make()
    await world.reconcile()
    other = world.server.put(PATH, {**world.server.objects[PATH], "status": {}})
    other["metadata"]["uid"] = "another"
    world.backtests._stores.put(R1BACKTEST, other)
    world.fail("DELETE", REFUSED)
    await world.reconcile()
    assert world.status["phase"] == "Pending"


async def test_a_recovered_child_is_not_requeued(world: World) -> None:
    world.make()
    world.fail("POST", REFUSED)
    await world.reconcile()
    world.inferences.remove(R1INFERENCE, world.server.objects[R1INFERENCE.path("ns", "chat")])
    again: Any = await world.reconcile()
    assert world.condition("Complete")["reason"] == "InferenceNotFound"
    assert again == 30.0
