"""Simulated service on machines whose wall clocks are set: fake I/O around the real scaling loop.

Time is simulated. Each machine has its own wall clock; monotonic clocks never step.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

from r1_common.clock import AnchoredClock
from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import PrometheusConfig
from r1_operator.api.names import Label
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.controller.scaling.scaling_loop import ScalingLoop
from r1_operator.kube.kinds import DEPLOYMENT, POD, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.gateway_signals import read_signals
from r1_operator.plan.status.conditions import rfc3339
from r1_operator.sources.external import ExternalMetrics
from r1_operator.sources.forecast import ForecastClient
from r1_operator.sources.signals import SignalSnapshot, SignalsResponse

KEY = Key("default", "r1")
START = 1_800_000_000.0
OPERATOR, FORECASTER, NEW_GATEWAY, OLD_GATEWAY = "operator", "forecaster", "gw-new", "gw-old"
MACHINES = (OPERATOR, FORECASTER, NEW_GATEWAY, OLD_GATEWAY)
ROUND_SECONDS = 2.0
START_SECONDS = 40.0


@dataclass(frozen=True)
class ClockStep:
    """A step of the wall clock of `machine` by `by` seconds, `moment` seconds after the start."""

    machine: str
    moment: float
    by: float


class LastDecisions(DecisionHistory):
    """A decision history that exposes the newest decision."""

    newest: Decision

    def add(self, key: Key, decision: Decision) -> None:
        """Add a decision."""
        self.newest = decision
        super().add(key, decision)


class SteppedWorld:
    """One resource, two gateways (one of an earlier release), a forecaster, pods that start."""

    def __init__(self, replicas: int, steps: tuple[ClockStep, ...] = ()) -> None:
        self.elapsed = 0.0
        self.steps = steps
        self.rate = 20.0
        self.offered = 0.0
        self.completed = 0.0
        self.queued = 0.0
        self.took = 0.0
        self.slow = 0.0
        self.version = 0
        self.created: dict[str, float] = {}
        self.deployed: tuple[int, int] = (-1, -1)
        self.views = Stores()
        self.book = LastDecisions()
        self.clock = AnchoredClock(wall=lambda: self.wall(OPERATOR), monotonic=lambda: self.elapsed)
        self.forecaster = ForecastClient(
            "http://forecaster",
            rng=random.Random(1),
            clock=lambda: self.elapsed,
            now=self.clock.now,
        )
        self.forecaster._poller.fetch = self.forecast  # type: ignore[method-assign,assignment]
        self.deploy(replicas)
        signals: Any = self
        nodes: Any = self
        self.loop = ScalingLoop(
            self.views,
            signals,
            self.forecaster,
            ExternalMetrics(PrometheusConfig()),
            nodes,
            self.book,
            enqueue=lambda _: None,
            emit=lambda _: None,
            metrics=OperatorMetrics(),
            now=self.clock.now,
        )
        self.outcome: list[tuple[Any, ...]] = []

    def wall(self, machine: str) -> float:
        """Reading of the wall clock of a machine."""
        set_by = sum(
            step.by
            for step in self.steps
            if step.machine == machine and step.moment <= self.elapsed
        )
        return START + self.elapsed + set_by

    async def read(self) -> SignalSnapshot:
        """The signals of both gateways, parsed by the operator's parser."""
        routes: list[CounterSample] = []
        answers: dict[str, SignalsResponse] = {}
        for name in (NEW_GATEWAY, OLD_GATEWAY):
            document = self.signals(name)
            samples = read_signals(document, self.clock.now())
            assert not isinstance(samples, Unavailable), samples
            sample = samples[str(KEY)]
            assert isinstance(sample, CounterSample), sample
            routes.append(replace(sample, gateway=name))
            answers[name] = SignalsResponse(document, {}, self.clock.now())
        names = frozenset((NEW_GATEWAY, OLD_GATEWAY))
        return SignalSnapshot(names, {str(KEY): tuple(routes)}, answers=answers)

    def signals(self, name: str) -> Json:
        """The signals document of one gateway: half of the load."""
        fast = max(0.0, self.completed - self.slow)
        latency = {"Q2": {"counts": [fast, self.slow, 0.0], "sumSeconds": self.took}}
        document: Json = {
            "gateway": name,
            "startedAt": START - 900.0,
            "at": self.wall(name),
            "secondsBuckets": [0.5, 60.0],
            "routes": {
                str(KEY): {
                    "offeredRequests": {"Q1": self.offered / 8, "Q2": self.offered * 3 / 8},
                    "offeredTokens": {"Q2": self.offered * 50},
                    "completed": {"Q2": self.completed / 2},
                    "failed": {},
                    "rejected": {},
                    "cancelled": {},
                    "queued": {"Q2": self.queued / 2},
                    "oldestWaitSeconds": {"Q2": self.queued / 40},
                    "inFlight": {"Q2": min(self.rate, 8.0 * self.ready) / 2},
                    "queuedWithoutEndpoints": 0,
                    "seatOccupancySeconds": 2.0,
                    "seats": 4 * self.ready,
                    "readyEndpoints": self.ready,
                    "timeToFirstToken": {},
                    "latency": latency,
                }
            },
        }
        if name == NEW_GATEWAY:
            document["uptimeSeconds"] = 900.0 + self.elapsed
        return document

    async def reserve_seats(self, *_: Any) -> None:
        """Accept seat reservations without an effect."""

    async def forecast(self, *_: Any, json: Json, **__: Any) -> tuple[int, Json]:
        """A forecast issued 3 s ago by the forecaster's wall clock."""
        issued, step = self.wall(FORECASTER) - 3.0, json["stepSeconds"]
        peak = 40.0 + 30.0 * (int(self.elapsed) // 240 % 2)
        points = [
            {"at": issued + 3.0 + step * n, "quantiles": {"0.5": peak / 2, "0.91": peak}}
            for n in range(1, 10)
        ]
        return 200, {
            "series": str(KEY),
            "state": "Ready",
            "reason": "r",
            "message": "m",
            "model": "lstm",
            "issuedAt": issued,
            "validUntil": issued + 3.0 + step,
            "ageSeconds": 3.0,
            "gate": {"open": True, "reason": "r", "message": "m", "scores": {}},
            "points": points,
            "peakOverLead": {"0.5": peak / 2, "0.91": peak},
            "coverage": {},
            "lastObserved": {"at": issued, "value": peak / 2},
        }

    @property
    def ready(self) -> int:
        """Number of ready replicas."""
        return sum(self.elapsed - created >= START_SECONDS for created in self.created.values())

    def deploy(self, replicas: int) -> None:
        """Apply the replicas like the reconcile and the kubelets, with correct clocks."""
        if self.deployed == (replicas, self.ready):
            return
        self.version += 1
        metadata = {"namespace": KEY.namespace, "resourceVersion": str(self.version)}
        metadata |= {"labels": {Label.RESOURCE.value: KEY.name}}  # type: ignore[dict-item]
        named = {**metadata, "name": KEY.name, "uid": "d"}
        self.views.put(DEPLOYMENT, {"metadata": named, "spec": {"replicas": replicas}})
        for number in range(30):
            name = f"p{number}"
            if number >= replicas:
                if self.created.pop(name, None) is not None:
                    gone = {**metadata, "name": name, "uid": ""}
                    self.views.remove(POD, {"metadata": gone})
                continue
            created = self.created.setdefault(name, self.elapsed if self.version > 1 else -60.0)
            placed, since = rfc3339(START + created), created + START_SECONDS
            conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": placed}]
            if self.elapsed >= since:
                ready = rfc3339(START + since)
                conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": ready})
            made = {"name": name, "uid": f"{name}-{created}", "creationTimestamp": placed}
            pod = {"metadata": {**metadata, **made}, "status": {"conditions": conditions}}
            self.views.put(POD, pod)
        self.deployed = (replicas, self.ready)

    async def pass_time(self, seconds: float) -> None:
        """Run rounds of two seconds; apply and record each decision."""
        end = self.elapsed + seconds
        while self.elapsed < end:
            await self.one_round()

    async def one_round(self) -> None:
        """Serve for two seconds, then decide and apply the decision."""
        self.elapsed += ROUND_SECONDS
        arrived, carried = self.rate * ROUND_SECONDS, 10.3 * self.ready * ROUND_SECONDS
        finished = min(self.queued + arrived, carried)
        self.queued += arrived - finished
        self.offered += arrived
        self.completed += finished
        load = finished / carried if carried else 1.0
        self.took += finished * (0.1 + 0.3 * load)
        self.slow += finished * 0.1 * load
        await self.loop.round()
        self.loop.register(KEY, RESOURCE)
        shown = self.loop.current_decision(KEY)
        for _ in range(4):
            await asyncio.sleep(0)  # let the request to the forecaster complete
        newest = self.book.newest
        state = dict(self.loop.registered())[KEY]
        seats = tuple((one.name, one.seats) for one in state.last.seat_reservations)
        self.outcome.append((newest.replicas, newest.reason, newest.mode, seats))
        assert shown is not None
        self.deploy(newest.replicas)


RESOURCE: R1Inference = parse(
    {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "u", "generation": 1},
        "spec": {
            "replicas": 2,
            "autoscaling": {
                "minReplicas": 2,
                "maxReplicas": 30,
                "metrics": [
                    {"type": "RequestsPerSecond", "target": 10},
                    {"type": "MeanLatency", "target": 900},
                ],
                "forecast": {"activation": "RequireBacktest", "quantilePercent": 91},
                "behavior": {
                    "scaleUp": {"policies": [{"type": "Pods", "value": 3, "periodSeconds": 30}]},
                    "scaleDown": {
                        "stabilizationWindowSeconds": 120,
                        "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
                    },
                },
            },
        },
    }
)
