"""The replica count of every autoscaled resource, decided anew every two seconds.

One path: read the gateways, take the latest forecast, `decide` (pure, in `plan/scaling.py`), note
the decision; where the count changed, tell the reconcile, which is the only writer. The loop itself
writes nothing.

What a restart must not do is change a count. So the first decision about a resource starts from the
count that its Deployment has, and the history that `decide` keeps lets nothing fall before a whole
window was watched.

Ten thousand resources that nobody calls must cost little: one whose signals stand still is decided
every fifteen seconds instead of every two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from r1_common.clock import PROCESS_CLOCK
from r1_operator.api.scaling import LATENCY_TYPES, Activation, ClassName, ForecastSpec, MetricType
from r1_operator.api.v1 import R1Inference, Spec
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import DEPLOYMENT, Json, Key
from r1_operator.kube.store import StoredObject, Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.placement.node_parsing import read_shape
from r1_operator.plan.placement.pod_deletion_cost import pod_loads
from r1_operator.plan.placement.schedulable import (
    NOT_ASKED,
    NOT_SEEN_YET,
    Placement,
    SchedulableCapacity,
    schedulable_replicas,
)
from r1_operator.plan.scaling.budgets import ceilings_of
from r1_operator.plan.scaling.decide import decide, fixed
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.forecast_approval import (
    NOT_READ,
    BacktestTarget,
    ForecastApproval,
    approval_of,
    target_of,
)
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import Ceiling, ScalingPolicy, policy_of
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.scaling.seat_reservation import ClassReservation
from r1_operator.plan.signals.class_arrivals import ClassArrivals, ClassArrivalsWindow
from r1_operator.plan.signals.demand import CounterSample, Demand, DemandWindow
from r1_operator.plan.signals.forecast import ReceivedForecast
from r1_operator.plan.signals.latency_histograms import NOT_REPORTED, Latencies, LatencyWindow
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import Pod
from r1_operator.plan.unavailable import LowerBound, Unavailable
from r1_operator.plan.workload.route import promises_of
from r1_operator.sources.external import ExternalMetrics
from r1_operator.sources.forecast import ForecastClient, build_forecast_query, forecast_metric
from r1_operator.sources.lead_time import StartTimes
from r1_operator.sources.nodes import Nodes, NodeSnapshot
from r1_operator.sources.signals import NO_GATEWAY, GatewaySignals, SignalSnapshot

logger = logging.getLogger(__name__)

IDLE_SECONDS = 15.0
ACTIVE_SECONDS = 90.0
WARM_UP_SECONDS = 15.0
SHOW_SECONDS = 5.0
UNWATCHED_SECONDS = 4 * IDLE_SECONDS
"""A longer time between two decisions was not watched: the process was stopped, or asleep."""
ADVICE_SECONDS = 10.0
"""For so long a gateway goes by what it was told: five rounds, so that one lost answer does no harm."""
BACKTESTS_NOT_READ = Unavailable("NotRead", "R1Backtests have not been read yet.")


@dataclass(slots=True)
class Scaled:
    """What the loop knows of one autoscaled resource.

    `target` is the last decided count and `observed` what it was decided on. `shown` is the decision that the status tells: it follows at
    once when the count changes and otherwise not more often than people can read.
    """

    uid: str
    generation: int
    policy: ScalingPolicy
    forecast: ForecastSpec
    seats: int
    promises: Mapping[ClassName, float] = field(default_factory=dict)
    """times to first token by class, in seconds"""
    asked_proof: BacktestTarget | None = None
    """which backtest has to let the forecast act, None where none has to"""
    window: DemandWindow = field(default_factory=DemandWindow)
    urgency: ClassArrivalsWindow = field(default_factory=ClassArrivalsWindow)
    latencies: LatencyWindow = field(default_factory=LatencyWindow)
    history: ScalingState = field(default_factory=ScalingState)
    starts: StartTimes = field(default_factory=StartTimes)
    target: int | None = None
    held_back: tuple[ClassReservation, ...] = ()
    """what the last decision keeps free; nothing where that is not known"""
    observed: ScalingInputs | None = None
    shown: Decision | None = None
    shown_at: float = 0.0
    known: dict[str, CounterSample] = field(default_factory=dict)
    moved_at: float = 0.0
    decided_at: float = 0.0
    room: tuple[NodeSnapshot, bytes, SchedulableCapacity] | None = None
    """for how many more there was room, by which look, for a Deployment of which digest"""

    def room_in(self, look: NodeSnapshot, deployment: StoredObject) -> SchedulableCapacity:
        """Room for this Deployment's pods; counted once a look, which many decisions share."""
        known = self.room
        if known is None or known[0] is not look or known[1] != deployment.digest:
            shape = read_shape(deployment.load()["spec"]["template"]["spec"])
            known = self.room = (look, deployment.digest, schedulable_replicas(shape, look.nodes))
        return known[2]


class ScalingLoop:
    """Targets for the reconcile, decisions for people."""

    def __init__(
        self,
        views: Stores,
        signals: GatewaySignals,
        forecaster: ForecastClient,
        external: ExternalMetrics,
        nodes: Nodes,
        book: DecisionHistory,
        *,
        enqueue: Callable[[Key], None],
        emit: Callable[[EventSpec], None],
        metrics: OperatorMetrics,
        decision_seconds: float = 2.0,
        min_rate_seconds: int = 60,
        backtest: Callable[[Key], Json | Unavailable | None] = lambda _: BACKTESTS_NOT_READ,
        ceilings: Callable[[Spec], tuple[Ceiling, ...]] = ceilings_of,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        self._views = views
        self._signals = signals
        self._forecaster = forecaster
        self._external = external
        self._nodes = nodes
        self._book = book
        self._enqueue = enqueue
        self._emit = emit
        self._metrics = metrics
        self._period = decision_seconds
        self._min_rate_seconds = min_rate_seconds
        self._backtest = backtest
        self._ceilings = ceilings
        self._now = now
        self._scaled: dict[Key, Scaled] = {}
        self._reading = SignalSnapshot()
        self._started_at = now()
        self._advised: frozenset[str] = frozenset()

    @property
    def warming_up(self) -> bool:
        """Whether this process has watched too briefly to contradict what the status says."""
        return self._now() - self._started_at < WARM_UP_SECONDS

    def follow(self, key: Key, resource: R1Inference) -> Decision | None:
        """The decision that stands for this resource; from now on the loop follows its policy.

        None while an autoscaled resource has not been decided about: its count stays as it is.
        """
        autoscaling = resource.spec.autoscaling
        if autoscaling is None:
            return self._follow_user(key, resource)
        state = self._scaled.get(key)
        if state is not None and state.uid == resource.uid:
            if state.generation != resource.generation:
                state.generation = resource.generation
                state.policy = policy_of(autoscaling, self._ceilings(resource.spec))
                state.forecast, state.seats = autoscaling.forecast, _seats(resource)
                state.promises, state.asked_proof = promises_of(resource), target_of(resource)
            return state.shown
        fresh = self._scaled[key] = Scaled(
            uid=resource.uid,
            generation=resource.generation,
            policy=policy_of(autoscaling, self._ceilings(resource.spec)),
            forecast=autoscaling.forecast,
            seats=_seats(resource),
            promises=promises_of(resource),
            asked_proof=target_of(resource),
        )
        # Decided at once where that is possible: the reconcile that asks need not come again.
        self._observe(key, fresh)
        self._decide(key, fresh, asked=True)
        return fresh.shown

    def followed(self) -> Sequence[tuple[Key, Scaled]]:
        """Every autoscaled resource, with what is known of it."""
        return tuple(self._scaled.items())

    def forget(self, key: Key) -> None:
        """The resource has gone."""
        self._scaled.pop(key, None)
        self._forecaster.forget(key)
        self._external.retain(key, ())
        self._book.forget(key)

    def lead(self, key: Key) -> LeadTime | None:
        """What a replica takes from being asked for to serving; None of a resource not followed."""
        state = self._scaled.get(key)
        return None if state is None else state.starts.lead(self._period)

    def loads(self, key: Key) -> Mapping[str, float] | Unavailable:
        """Requests in flight by pod address, as the gateways last said."""
        reading = self._reading
        samples = reading.routes.get(str(key), ())
        return pod_loads(samples, gateways=reading.gateways, silent=reading.silent)

    async def prime(self) -> None:
        """Read the gateways for the first time, before anything asks for a decision."""
        self._started_at = self._now()
        self._reading = await self._signals.read()

    async def run(self) -> None:
        """Decide for ever."""
        while True:
            started = asyncio.get_running_loop().time()
            await self.round()
            spent = asyncio.get_running_loop().time() - started
            await asyncio.sleep(max(self._period / 4, self._period - spent))

    async def round(self) -> None:
        """Read the gateways once and decide what is due."""
        self._reading = await self._signals.read()
        silent = len(self._reading.silent)
        self._metrics.gateways.labels("unreachable").set(silent)
        self._metrics.gateways.labels("reachable").set(len(self._reading.gateways) - silent)
        with self._metrics.decision_seconds.time():
            for count, (key, state) in enumerate(list(self._scaled.items())):
                if count % 100 == 99:
                    await asyncio.sleep(0)  # ten thousand decisions must not hold up the watches
                try:
                    self._observe(key, state)
                    if self._scaled.get(key) is state and self._is_due(state):
                        self._decide(key, state)
                except Exception:  # one resource's bug must not stop the others' scaling
                    logger.exception("%s: no decision, the count stays", key)
        await self._advise()

    async def _advise(self) -> None:
        """Hand the gateways what the decisions hold back; nothing while that is and was nothing."""
        seats = {
            str(key): {one.name.value: one.per_gateway for one in state.held_back}
            for key, state in self._scaled.items()
            if any(one.per_gateway for one in state.held_back)
        }
        told = {key: seats.get(key, {}) for key in (*self._advised, *seats)}
        self._advised = frozenset(seats)
        if told:
            await self._signals.reserve_seats(told, ADVICE_SECONDS)

    def _observe(self, key: Key, state: Scaled) -> None:
        now = self._now()
        for sample in self._reading.routes.get(str(key), ()):
            state.window.observe(sample)
            state.urgency.observe(sample)
            known = state.known.get(sample.gateway)
            if known is None or _moves(known, sample):
                state.moved_at = now
            state.known[sample.gateway] = sample
        if _counts_latency(state.policy):
            for latencies in self._reading.latencies(str(key)):
                state.latencies.observe(latencies)

    def _is_due(self, state: Scaled) -> bool:
        now = self._now()
        active = now - state.moved_at < ACTIVE_SECONDS
        return state.target is None or active or now - state.decided_at >= IDLE_SECONDS

    def _decide(self, key: Key, state: Scaled, *, asked: bool = False) -> None:
        live = self._live_replicas(key)
        if live is None:
            return  # nothing to scale yet; the reconcile makes it
        now = self._now()
        if state.target is not None and now - state.decided_at > UNWATCHED_SECONDS:
            state.history = state.history.interrupted(now, state.target)
        pods = self._views.pods.of(key)
        state.starts.observe(pods)
        proof, lead = self._proof(key, state, now), state.starts.lead(self._period)
        observed = ScalingInputs(
            current=live if state.target is None else state.target,
            ready=sum(pod.serves for pod in pods),
            demand=self._demand(state, lead, now),
            forecast=self._forecast(key, state, proof, lead),
            seats_per_replica=state.seats,
            latencies=self._latencies(state, now),
            external=self._external_values(key, state.policy),
            lead=lead,
            placement=self._placement(key, state, pods),
            urgency=self._urgency(state, now),
            promises=state.promises,
            proof=proof,
        )
        decision, state.history = decide(state.policy, observed, state.history, now)
        state.decided_at, state.observed = now, observed
        held = decision.holdback
        state.held_back = held if isinstance(held, tuple) else ()
        self._metrics.decisions.labels(decision.reason.value).inc()
        self._book.add(key, decision)
        self._publish(key, state, decision, asked)

    def _publish(self, key: Key, state: Scaled, decision: Decision, asked: bool) -> None:
        before = state.target
        state.target = decision.replicas
        changed = decision.replicas != decision.current
        if changed:
            logger.info(
                "%s: %d -> %d replicas (%s) %s",
                key,
                decision.current,
                decision.replicas,
                decision.reason,
                decision.message,
            )
            self._emit(_scaled_notice(key, state.uid, decision))
        paced = decision.at - state.shown_at >= SHOW_SECONDS or before is None
        if changed or (paced and _mark(decision) != _mark(state.shown)):
            state.shown, state.shown_at = decision, decision.at
            if not asked:
                self._enqueue(key)

    def _demand(self, state: Scaled, lead: LeadTime, now: float) -> Demand | Unavailable:
        if not self._reading.gateways:
            return NO_GATEWAY
        return state.window.read(now, self._reading.gateways, lead.seconds)

    def _urgency(self, state: Scaled, now: float) -> ClassArrivals | Unavailable:
        if not self._reading.gateways:
            return NO_GATEWAY
        return state.urgency.read(now, self._reading.gateways)

    def _proof(self, key: Key, state: Scaled, now: float) -> ForecastApproval | None:
        asked = state.asked_proof
        if asked is None:
            return None
        found = self._backtest(Key(key.namespace, asked.backtest))
        return NOT_READ if isinstance(found, Unavailable) else approval_of(asked, found, now)

    def _latencies(self, state: Scaled, now: float) -> Latencies | Unavailable:
        if not _counts_latency(state.policy):
            return NOT_REPORTED
        return state.latencies.read(now, self._reading.gateways)

    def _external_values(
        self, key: Key, policy: ScalingPolicy
    ) -> dict[str, float | LowerBound | Unavailable]:
        asked = {m.label: m.query for m in policy.metrics if m.type is MetricType.EXTERNAL}
        self._external.retain(key, asked.values())
        return {label: self._external.latest(key, query) for label, query in asked.items()}

    def _forecast(
        self, key: Key, state: Scaled, proof: ForecastApproval | None, lead: LeadTime
    ) -> ReceivedForecast | Unavailable | None:
        metric = forecast_metric(state.policy.metrics)
        never = state.forecast.activation is Activation.NEVER
        if metric is None or never or not self._forecaster.configured:
            return None
        ask = state.forecast
        if proof is not None and not proof.acts:  # nor does it act on anybody else's count
            ask = replace(ask, activation=Activation.ADVISORY)
        question = build_forecast_query(
            key,
            ask,
            metric,
            lead.from_request_seconds,
            self._min_rate_seconds,
            down_window_seconds=state.policy.down.stabilization_window_seconds,
        )
        return self._forecaster.latest(key, question)

    def _placement(self, key: Key, state: Scaled, pods: Sequence[Pod]) -> Placement:
        if not state.policy.bindable:
            return NOT_ASKED
        living = [pod for pod in pods if not (pod.terminating or pod.ended)]
        stuck = sum(bool(pod.unschedulable_message) for pod in living)
        look, stored = self._nodes.latest(), self._views.children[DEPLOYMENT.name].get(key)
        if isinstance(look, Unavailable) or stored is None:
            room = look if isinstance(look, Unavailable) else NOT_SEEN_YET
            return Placement(sum(pod.node is not None for pod in living), stuck, room)
        return Placement(look.placed.get(key, 0), stuck, state.room_in(look, stored))

    def _live_replicas(self, key: Key) -> int | None:
        stored = self._views.children[DEPLOYMENT.name].get(key)
        return stored.replicas if stored is not None else None

    def _follow_user(self, key: Key, resource: R1Inference) -> Decision:
        if self._scaled.pop(key, None) is not None:
            self._forecaster.forget(key)
            self._external.retain(key, ())
        live = self._live_replicas(key)
        wanted = resource.spec.replicas
        decision = fixed(wanted, wanted if live is None else live, self._now())
        if live != wanted:
            self._book.add(key, decision)
        return decision


def _seats(resource: R1Inference) -> int:
    return resource.spec.runtime.max_concurrent_sequences


def _counts_latency(policy: ScalingPolicy) -> bool:
    return any(metric.type in LATENCY_TYPES for metric in policy.metrics)


def _moves(before: CounterSample, after: CounterSample) -> bool:
    return (
        after.in_flight + after.queued + after.held > 0
        or after.offered_requests != before.offered_requests
        or after.completed != before.completed
        or after.started_at != before.started_at
    )


def _mark(decision: Decision | None) -> tuple[object, ...]:
    """What of a decision the status shows."""
    if decision is None:
        return ()
    note = decision.forecast
    unavailable = note.unavailable.reason if note is not None and note.unavailable else None
    unproved = None if decision.proof is None or decision.proof.acts else decision.proof
    bound = decision.reason if decision.limited or not decision.metrics_available else None
    return (decision.replicas, decision.mode, bound, unavailable, unproved)


def _scaled_notice(key: Key, uid: str, decision: Decision) -> EventSpec:
    up = decision.replicas > decision.current
    change = f"{decision.current} to {decision.replicas}"
    return EventSpec(
        key=key,
        uid=uid,
        reason="ScaledUp" if up else "ScaledDown",
        note=f"From {change} replicas ({decision.reason}): {decision.message}",
        action="Scale",
    )
