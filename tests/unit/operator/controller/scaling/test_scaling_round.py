"""The scaling loop: polls, state and outputs, with a virtual clock and without network."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import PrometheusConfig
from r1_operator.api.accelerators import GPU
from r1_operator.api.backtest.spec import autoscaling_hash
from r1_operator.api.names import Label
from r1_operator.api.scaling import ClassName
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.controller.scaling.scaling_loop import ScalingLoop
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import DEPLOYMENT, POD, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.placement.schedulable import Node
from r1_operator.plan.scaling.decide import fixed
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.sources.external import ExternalMetrics
from r1_operator.sources.nodes import NodeSnapshot
from r1_operator.sources.signals import SignalSnapshot, SignalsResponse

KEY = Key("default", "r1")
START = 1_800_000_000.0
NOWHERE = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available."}


class World:
    """A clock, a gateway with counters of a given rate, and a Deployment that follows the count."""

    def __init__(self, replicas: int | None = 2, *, gateway: bool = True) -> None:
        self.now = START
        self.rate = 0.0
        self.offered = 0.0
        self.gateway = gateway
        self.latency_ms: float | None = None
        self.metrics: list[Json] = [{"type": "RequestsPerSecond", "target": 10}]
        self.version = 1
        self.gpus = 20
        self.blind: Unavailable | None = None
        self.look: NodeSnapshot | None = None
        self.looks, self.looked_at = 0, START
        self.capacity: Json = {}
        self.forecast: Json = {}
        self.urgent = 0.0
        self.gateways = ("gw",)
        self.advice: list[tuple[dict[str, dict[str, int]], float]] = []
        self.backtests: dict[Key, Json] | None = {}
        self.enqueued: list[Key] = []
        self.events: list[EventSpec] = []
        self.stores = Stores()
        self.book = DecisionHistory()
        if replicas is not None:
            self.deploy(replicas)
        signals: Any = self
        forecaster: Any = self
        nodes: Any = self
        self.loop = ScalingLoop(
            self.stores,
            signals,
            forecaster,
            ExternalMetrics(PrometheusConfig()),
            nodes,
            self.book,
            enqueue=self.enqueued.append,
            emit=self.events.append,
            metrics=OperatorMetrics(),
            backtest=self.backtest,
            now=lambda: self.now,
        )

    configured = False

    def backtest(self, key: Key) -> Json | Unavailable | None:
        """The interface of the backtests."""
        if self.backtests is None:
            return Unavailable("NotRead", "Not read.")
        return self.backtests.get(key)

    async def reserve_seats(self, seats: dict[str, dict[str, int]], valid_seconds: float) -> None:
        """The seat reservation interface of the gateways."""
        self.advice.append((seats, valid_seconds))

    def register(self, resource: R1Inference) -> Decision | None:
        """Register the resource; the decision that applies then."""
        self.loop.register(KEY, resource)
        return self.loop.current_decision(KEY)

    def forget(self, key: Key) -> None:
        """The interface of the forecaster."""

    def latest(self) -> NodeSnapshot | Unavailable:
        """The interface of the nodes."""
        self.looks += 1
        if self.blind is not None:
            return self.blind
        if self.look is None or self.now - self.looked_at >= 15.0:
            held = sum(pod.node is not None for pod in self.stores.pods.of(KEY))
            self.looked_at = self.now
            self.look = NodeSnapshot((gpus(self.gpus - held), gpus(0, "m")), {KEY: held})
        return self.look

    async def read(self) -> SignalSnapshot:
        """The interface of the gateway."""
        if not self.gateway:
            return SignalSnapshot()
        sample = CounterSample(
            gateway="gw",
            started_at=START - 3600,
            at=self.now,
            received_at=self.now,
            offered_requests=self.offered,
            offered_tokens=0.0,
            completed=self.offered,
            rejected=0.0,
            in_flight=min(self.rate, 10.0),
            queued=0.0,
            buffered=0.0,
            oldest_wait_seconds=0.0,
            seats=16.0,
            ready_endpoints=2.0,
            offered_by_class={
                ClassName.Q1: self.offered * self.urgent,
                ClassName.Q2: 0.0,
                ClassName.Q3: self.offered * (1 - self.urgent),
            },
            seat_seconds=20.0,
        )
        answers = {"gw": SignalsResponse(self.answer(), {}, self.now)}
        return SignalSnapshot(frozenset({"gw"}), {str(KEY): (sample,)}, answers=answers)

    def answer(self) -> Json:
        """The response of `/signals`: every request took `latency_ms`, or there is no latency."""
        if self.latency_ms is None:
            return {}
        counts = {"counts": [self.offered, 0], "sumSeconds": self.offered * self.latency_ms / 1000}
        return {
            "gateway": "gw",
            "startedAt": START - 3600,
            "at": self.now,
            "secondsBuckets": [10.0],
            "routes": {
                str(KEY): {
                    "oldestWaitSeconds": {},
                    "timeToFirstToken": {},
                    "latency": {"Q2": counts},
                }
            },
        }

    def deploy(self, replicas: int) -> None:
        """Apply a count as the reconcile, the watch and the kubelets do."""
        self.version += 1
        metadata = {
            "namespace": KEY.namespace,
            "name": KEY.name,
            "uid": "d",
            "resourceVersion": str(self.version),
            "labels": {Label.RESOURCE.value: KEY.name},
        }
        engine = {"name": "engine", "resources": {"limits": {GPU: 1}}}
        template = {"spec": {"containers": [engine]}}
        spec = {"replicas": replicas, "template": template}
        self.stores.put(DEPLOYMENT, {"metadata": metadata, "spec": spec})
        placed = "2026-01-01T00:00:00Z"
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": placed},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"},
        ]
        for number in range(20):
            name = {"name": f"p{number}", "uid": f"p{number}"}
            created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
            pod: Json = {"metadata": metadata | name | created}
            if number < self.gpus:
                pod |= {"spec": {"nodeName": "n"}, "status": {"conditions": conditions}}
            else:
                pod |= {"status": {"conditions": [NOWHERE]}}
            (self.stores.put if number < replicas else self.stores.remove)(POD, pod)

    async def pass_time(self, seconds: float) -> None:
        """Decide every 2 s and apply each count."""
        end = self.now + seconds
        while self.now < end:
            self.now += 2.0
            self.offered += 2.0 * self.rate
            await self.loop.round()
            inference = resource(
                metrics=self.metrics, capacity=self.capacity, forecast=self.forecast
            )
            shown = self.register(inference)
            if shown is not None:
                self.deploy(shown.replicas)


def resource(
    autoscaling: bool = True,
    replicas: int = 2,
    uid: str = "u",
    metrics: list[Json] | None = None,
    capacity: Json | None = None,
    forecast: Json | None = None,
) -> R1Inference:
    spec: Json = {"replicas": replicas}
    if autoscaling:
        metrics = metrics or [{"type": "RequestsPerSecond", "target": 10}]
        spec["autoscaling"] = {"minReplicas": 1, "maxReplicas": 20, "metrics": metrics}
        spec["autoscaling"]["capacity"] = capacity or {}
        spec["autoscaling"]["forecast"] = forecast or {}
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": uid, "generation": 1}
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference"}
    return parse({**manifest, "metadata": metadata, "spec": spec})


def counts(events: Sequence[EventSpec]) -> list[str]:
    return [notice.reason for notice in events]


async def test_without_autoscaling_spec_replicas_sets_the_count() -> None:
    world = World(replicas=2)
    decision = world.register(resource(autoscaling=False, replicas=5))
    assert decision is not None
    assert decision.replicas == 5
    assert decision.mode == "Manual"
    assert world.book.of(KEY)[-1]["replicas"] == 5


async def test_without_a_deployment_there_is_no_decision() -> None:
    world = World(replicas=None)
    await world.loop.prime()
    assert world.register(resource()) is None
    await world.pass_time(10)
    assert world.book.of(KEY) == []


@pytest.mark.parametrize("start_replicas", [1, 7, 20])
async def test_a_fresh_process_keeps_the_current_count(start_replicas: int) -> None:
    world = World(replicas=start_replicas)
    await world.loop.prime()
    world.register(resource())
    await world.pass_time(280)  # one default window is 300 s
    stored = world.stores.children["Deployment"].get(KEY)
    assert stored is not None
    assert stored.replicas == start_replicas
    assert world.events == []


async def test_scale_down_starts_after_a_full_quiet_window() -> None:
    world = World(replicas=7)
    await world.loop.prime()
    world.register(resource())
    await world.pass_time(400)
    stored = world.stores.children["Deployment"].get(KEY)
    assert stored is not None
    assert stored.replicas == 1
    assert set(counts(world.events)) == {"ScaledDown"}


async def test_status_event_and_decision_have_the_same_scale_up_message() -> None:
    world = World(replicas=2)
    await world.loop.prime()
    world.register(resource())
    await world.pass_time(20)
    world.enqueued.clear()
    world.rate = 63.0  # 63 / (0.7 x 10) = 9
    await world.pass_time(90)
    assert world.register(resource()) is not None
    stored = world.stores.children["Deployment"].get(KEY)
    assert stored is not None
    assert stored.replicas == 9
    assert KEY in world.enqueued
    risen = [one for one in world.book.of(KEY) if one["replicas"] > one["current"]]
    assert risen[-1]["message"] in world.events[-1].note


async def test_without_gateways_the_count_stays_with_a_cause() -> None:
    world = World(replicas=4, gateway=False)
    await world.loop.prime()
    decision = world.register(resource())
    assert decision is not None
    assert decision.replicas == 4
    assert not decision.metrics_available
    await world.pass_time(600)
    assert world.events == []
    assert world.book.of(KEY)[-1]["replicas"] == 4


LATENCY: list[Json] = [{"type": "MeanLatency", "target": 200}]


async def test_a_missing_latency_keeps_the_count_and_is_reported() -> None:
    world = World(replicas=4)
    world.metrics, world.rate = LATENCY, 10.0
    await world.loop.prime()
    world.register(resource(metrics=LATENCY))
    await world.pass_time(600)
    newest = world.book.of(KEY)[-1]
    assert (newest["replicas"], newest["reason"]) == (4, "MetricsUnavailable")
    assert "reported latencies" in newest["message"]


async def test_a_latency_below_its_objective_allows_scale_down() -> None:
    world = World(replicas=4)
    world.metrics, world.rate, world.latency_ms = LATENCY, 10.0, 20.0
    await world.loop.prime()
    world.register(resource(metrics=LATENCY))
    await world.pass_time(900)
    newest = world.book.of(KEY)[-1]
    assert newest["replicas"] < 4
    assert newest["inputs"]["latency"]["MeanLatency"]["milliseconds"] == pytest.approx(20.0)


async def test_an_external_metric_without_prometheus_keeps_the_count_and_names_the_setting() -> (
    None
):
    world = World(replicas=4)
    world.metrics = [{"type": "External", "target": 1, "query": "sum(up)"}]
    await world.loop.prime()
    world.register(resource(metrics=world.metrics))
    await world.pass_time(600)
    newest = world.book.of(KEY)[-1]
    assert (newest["replicas"], newest["reason"]) == (4, "MetricsUnavailable")
    assert "R1_PROMETHEUS_URL" in newest["message"]
    assert newest["inputs"]["leadTime"] == {
        "seconds": 32.0,
        "measuredStarts": 4,
        "nodeWaitSeconds": 0.0,
    }


async def test_a_recreated_resource_starts_with_a_new_state() -> None:
    world = World(replicas=4, gateway=False)
    await world.loop.prime()
    first = world.register(resource(uid="one"))
    world.deploy(2)
    second = world.register(resource(uid="two"))
    assert first is not None
    assert second is not None
    assert (first.replicas, second.replicas) == (4, 2)


async def test_idle_resources_are_decided_less_often() -> None:
    world = World(replicas=2)
    await world.loop.prime()
    world.register(resource())
    await world.pass_time(200)
    counter = _Counting(world.loop)
    await world.pass_time(60)
    idle = counter.count
    world.rate = 5.0
    await world.pass_time(60)
    assert idle <= 5
    assert counter.count - idle >= 28


class _Counting:
    def __init__(self, loop: ScalingLoop) -> None:
        self.count = 0
        decide = loop._decide

        def counted(*arguments: Any, **options: Any) -> None:
            self.count += 1
            decide(*arguments, **options)

        loop._decide = counted  # type: ignore[method-assign]


def test_decision_history_is_bounded_and_keeps_the_newest() -> None:
    book = DecisionHistory(last=5, budget=100)
    for n in range(50):
        book.add(KEY, fixed(n, n - 1, START + n))
    assert [one["replicas"] for one in book.of(KEY)] == [45, 46, 47, 48, 49]
    for n in range(50):
        book.add(KEY, fixed(7, 7, START + 100 + n * 0.1))
    assert [one["replicas"] for one in book.of(KEY)] == [46, 47, 48, 49, 7]
    assert book.of(KEY)[-1]["at"] == pytest.approx(START + 104.9)
    book.forget(KEY)
    assert book.of(KEY) == []


def gpus(free: int, name: str = "n") -> Node:
    return Node(name, {GPU: Fraction(free), "pods": Fraction(100)})


async def test_nodes_are_not_read_without_a_bindable_resource() -> None:
    world = World(replicas=2)
    world.rate = 100.0
    await world.pass_time(120)
    assert world.looks == 0
    assert world.book.of(KEY)[-1]["inputs"]["schedulable"] is None


async def test_a_bindable_scale_up_stops_at_schedulable_and_one_pending_replica() -> None:
    world = World(replicas=2)
    world.capacity = {"policy": "Bindable"}
    world.gpus, world.rate = 3, 100.0
    await world.pass_time(30)
    notes = "; ".join(notice.note for notice in world.events)
    # What found its place after the look is not counted twice until the next one.
    assert [
        decision["replicas"] for decision in world.book.of(KEY) if decision["replicas"] > 4
    ] == []
    assert "replicas (InsufficientCapacity): 4 replicas for now: 3 of the " in notes
    assert "needed fit on nodes (1 node fits 1; 1 node without free nvidia.com/gpu)" in notes
    await world.pass_time(60)
    last = world.book.of(KEY)[-1]
    assert (last["replicas"], last["reason"]) == (4, "InsufficientCapacity"), (
        "what waits is not multiplied"
    )
    assert last["message"] == (
        "4 replicas for now: 3 of the 15 needed fit on nodes (2 nodes without free nvidia.com/gpu). "
        "1 more may wait for a node (pendingReplicas)."
    )
    assert last["inputs"]["schedulable"]["unschedulable"] == 1
    world.gpus = 20
    world.deploy(4)
    await world.pass_time(60)
    assert world.book.of(KEY)[-1]["replicas"] == 15


async def test_unschedulable_pods_limit_the_count_without_the_right_to_list_nodes() -> None:
    world = World(replicas=2)
    world.capacity = {"policy": "Bindable", "pendingReplicas": 2}
    world.blind = Unavailable("NodesForbidden", "The operator may not list nodes.")
    world.rate, world.gpus = 30.0, 3
    await world.pass_time(60)
    assert world.book.of(KEY)[-1]["replicas"] == 5, "no pod has said that there is no room"
    world.rate = 100.0
    await world.pass_time(60)
    last = world.book.of(KEY)[-1]
    assert (last["replicas"], last["reason"]) == (5, "InsufficientCapacity")
    assert "2 pods are unschedulable; The operator may not list nodes." in last["message"]


async def test_seat_reservations_reach_the_gateways_and_the_decision() -> None:
    world = World(replicas=2)
    world.rate, world.urgent = 5.0, 0.2
    await world.loop.prime()
    await world.pass_time(60)
    seats, valid = world.advice[-1]
    assert seats[str(KEY)]["Q1"] > 0
    assert seats[str(KEY)]["Q2"] >= seats[str(KEY)]["Q1"]
    assert valid > 2 * 2.0, "one lost round does no harm"
    shown = world.book.of(KEY)[-1]["seatReservations"]
    assert shown["Q1"]["perGateway"] == seats[str(KEY)]["Q1"]
    assert "seats are reserved for Q1" in shown["Q1"]["message"]


async def test_no_seat_reservations_are_sent_without_urgent_load() -> None:
    world = World(replicas=2)
    world.rate = 5.0
    await world.loop.prime()
    await world.pass_time(60)
    assert world.advice == []


async def test_cleared_seat_reservations_are_sent_once() -> None:
    world = World(replicas=2)
    world.rate, world.urgent = 5.0, 0.2
    await world.loop.prime()
    await world.pass_time(60)
    world.loop.forget(KEY)
    await world.loop.round()
    assert world.advice[-1][0] == {str(KEY): {}}
    count = len(world.advice)
    await world.loop.round()
    assert len(world.advice) == count


async def test_without_gateways_no_seats_are_reserved_and_explain_has_the_cause() -> None:
    world = World(replicas=2, gateway=False)
    await world.loop.prime()
    await world.pass_time(20)
    assert world.advice == []
    assert world.book.of(KEY)[-1]["seatReservations"]["unavailable"] == "NoGateway"


async def test_a_named_backtest_is_read_at_every_decision() -> None:
    world = World(replicas=2)
    world.rate = 5.0
    world.forecast = {"backtestName": "november"}
    world.backtests = None
    await world.loop.prime()
    await world.pass_time(10)
    assert world.book.of(KEY)[-1]["forecastApproval"]["reason"] == "BacktestNotRead"
    world.backtests = {}
    await world.pass_time(10)
    assert world.book.of(KEY)[-1]["forecastApproval"]["reason"] == "BacktestMissing"
    shown = world.register(resource(forecast=world.forecast))
    assert shown is not None
    assert shown.forecast_approval is not None
    assert shown.forecast_approval.reason == "BacktestMissing", "the status follows"
    tried = autoscaling_hash(resource().spec.autoscaling)
    verdict = {"finding": "Cheaper", "message": "By 4 %."}
    status = {"phase": "Succeeded", "autoscalingHash": tried, "verdict": verdict}
    backtest_object = {"spec": {"inferenceName": KEY.name}, "status": status}
    world.backtests = {Key(KEY.namespace, "november"): backtest_object}
    await world.pass_time(10)
    assert world.book.of(KEY)[-1]["forecastApproval"]["approved"] is True


class Asked:
    """A forecaster that records its requests and has no forecast."""

    configured = True

    def __init__(self) -> None:
        self.activations: list[str] = []

    def latest(self, _: Key, question: Any) -> Unavailable:
        self.activations.append(str(question.request.activation))
        return Unavailable("Training", "Soon.")


async def test_without_an_approved_backtest_the_forecast_request_is_advisory() -> None:
    world, forecaster = World(replicas=2), Asked()
    vars(world.loop)["_forecaster"] = forecaster
    world.rate = 5.0
    world.forecast = {"backtestName": "november"}
    await world.loop.prime()
    await world.pass_time(4)
    assert set(forecaster.activations) == {"Advisory"}
    tried = autoscaling_hash(resource().spec.autoscaling)
    status = {"phase": "Succeeded", "autoscalingHash": tried, "verdict": {"finding": "Equal"}}
    backtest_object = {"spec": {"inferenceName": KEY.name}, "status": status}
    world.backtests = {Key(KEY.namespace, "november"): backtest_object}
    await world.pass_time(2)
    assert forecaster.activations[-1] == "RequireBacktest"
