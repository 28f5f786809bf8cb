"""Scaling loop: decides the replica count of every autoscaled resource every two seconds.

One path: read the gateways, take the latest forecast, call `decide` (pure, in `plan/scaling/decide.py`),
store the decision, and enqueue the resource where its count changed. The reconcile is the only writer;
the loop itself writes nothing.

A restart must not change a count. So the first decision starts from the count in the Deployment, and the
state of `decide` allows no scale-down before one full window was observed.

Ten thousand idle resources must cost little: a resource whose signals do not change is decided every
fifteen seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from r1_common.clock import PROCESS_CLOCK
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import Activation, MetricType
from r1_operator.api.v1 import R1Inference, Spec
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.controller.scaling.scaled_resource import (
    ScaledResource,
    ScalingConfig,
    scaling_config,
)
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import DEPLOYMENT, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.placement.pod_deletion_cost import pod_loads
from r1_operator.plan.placement.schedulable import (
    NODES_PENDING,
    UNKNOWN_PLACEMENT,
    Placement,
)
from r1_operator.plan.scaling.decide import decide, fixed
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.forecast_rules.forecast_approval import (
    NOT_READ,
    ForecastApproval,
    approval_of,
)
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.scaling.policy import Ceiling, ScalingPolicy
from r1_operator.plan.signals.forecast import ReceivedForecast
from r1_operator.plan.signals.latencies import NOT_REPORTED
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import Pod
from r1_operator.plan.unavailable import LowerBound
from r1_operator.sources.external import ExternalMetrics
from r1_operator.sources.forecast import ForecastClient, build_forecast_query, forecast_metric
from r1_operator.sources.nodes import Nodes
from r1_operator.sources.signals import GatewaySignals, SignalSnapshot

logger = logging.getLogger(__name__)

IDLE_SECONDS = 15.0
ACTIVE_SECONDS = 90.0
WARM_UP_SECONDS = 15.0
SHOW_SECONDS = 5.0
GAP_SECONDS = 4 * IDLE_SECONDS
"""A longer time between two decisions is a gap: the process was stopped or suspended."""
RESERVATION_TTL_SECONDS = 10.0
"""Validity of a seat reservation at a gateway: five rounds, so that one lost request does no harm."""
BACKTESTS_NOT_READ = Unavailable("NotRead", "R1Backtests are not read yet: wait a few seconds.")


class ScalingLoop:
    """Target counts for the reconcile, decisions for `r1 explain`."""

    def __init__(
        self,
        stores: Stores,
        signals: GatewaySignals,
        forecaster: ForecastClient,
        external: ExternalMetrics,
        nodes: Nodes,
        decisions: DecisionHistory,
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
        self._stores = stores
        self._signals = signals
        self._forecaster = forecaster
        self._external = external
        self._nodes = nodes
        self._decisions = decisions
        self._enqueue = enqueue
        self._emit = emit
        self._metrics = metrics
        self._period = decision_seconds
        self._min_rate_seconds = min_rate_seconds
        self._backtest = backtest
        self._ceilings = ceilings
        self._now = now
        self._scaled: dict[Key, ScaledResource] = {}
        self._manual: dict[Key, Decision] = {}
        self._snapshot = SignalSnapshot()
        self._started_at = now()
        self._reserved_keys: frozenset[str] = frozenset()

    @property
    def warming_up(self) -> bool:
        """Whether this process has observed too briefly to contradict the stored status."""
        return self._now() - self._started_at < WARM_UP_SECONDS

    def register(self, key: Key, resource: R1Inference) -> None:
        """Register a resource or its new generation; decide at once where that is possible."""
        state = self._scaled.get(key)
        known = None if state is None else state.config
        if known is not None and (known.uid, known.generation) == (
            resource.uid,
            resource.generation,
        ):
            return
        config = scaling_config(resource, self._ceilings)
        if config is None:
            self._register_manual(key, resource)
            return
        self._manual.pop(key, None)
        if state is not None and state.config.uid == config.uid:
            state.config = config
            return
        fresh = self._scaled[key] = ScaledResource(config)
        # At once, so that the reconcile that registers the resource need not run again.
        self._observe(key, fresh)
        self._decide(key, fresh, requested=True)

    def current_decision(self, key: Key) -> Decision | None:
        """The decision that applies; None before the first one: the count stays as it is."""
        state = self._scaled.get(key)
        return self._manual.get(key) if state is None else state.last.shown

    def registered(self) -> Sequence[tuple[Key, ScaledResource]]:
        """All autoscaled resources with their state."""
        return tuple(self._scaled.items())

    def forget(self, key: Key) -> None:
        """Drop a deleted resource."""
        self._scaled.pop(key, None)
        self._manual.pop(key, None)
        self._forecaster.forget(key)
        self._external.retain(key, ())
        self._decisions.forget(key)

    def lead(self, key: Key) -> LeadTime | None:
        """Return the lead time of a replica; None for a resource that is not registered."""
        state = self._scaled.get(key)
        return None if state is None else state.start_times.lead(self._period)

    def loads(self, key: Key) -> Mapping[str, float] | Unavailable:
        """Return the requests in flight by pod address, from the last gateway signals."""
        snapshot = self._snapshot
        samples = snapshot.routes.get(str(key), ())
        return pod_loads(samples, gateways=snapshot.gateways, silent=snapshot.silent)

    async def prime(self) -> None:
        """Read the gateways once, before the first decision."""
        self._started_at = self._now()
        self._snapshot = await self._signals.read()

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            started = asyncio.get_running_loop().time()
            await self.round()
            spent = asyncio.get_running_loop().time() - started
            await asyncio.sleep(max(self._period / 4, self._period - spent))

    async def round(self) -> None:
        """Read the gateways once and decide the resources that are due."""
        self._snapshot = await self._signals.read()
        silent = len(self._snapshot.silent)
        self._metrics.gateways.labels("unreachable").set(silent)
        self._metrics.gateways.labels("reachable").set(len(self._snapshot.gateways) - silent)
        with self._metrics.decision_seconds.time():
            for count, (key, state) in enumerate(list(self._scaled.items())):
                if count % 100 == 99:
                    await asyncio.sleep(0)  # ten thousand decisions must not block the watches
                try:
                    self._observe(key, state)
                    if self._scaled.get(key) is state and self._is_due(state):
                        self._decide(key, state)
                except Exception:  # one resource's bug must not stop the others' scaling
                    logger.exception(
                        "%s: the scaling decision failed, the replica count stays", key
                    )
        await self._send_reservations()

    async def _send_reservations(self) -> None:
        """Send the seat reservations to the gateways; nothing while none is or was set."""
        seats = {
            str(key): {one.name.value: one.per_gateway for one in state.last.seat_reservations}
            for key, state in self._scaled.items()
            if any(one.per_gateway for one in state.last.seat_reservations)
        }
        reservations = {key: seats.get(key, {}) for key in (*self._reserved_keys, *seats)}
        self._reserved_keys = frozenset(seats)
        if reservations:
            await self._signals.reserve_seats(reservations, RESERVATION_TTL_SECONDS)

    def _observe(self, key: Key, state: ScaledResource) -> None:
        route, needed = str(key), state.config.has_latency_metric
        for sample in self._snapshot.routes.get(route, ()):
            latencies = self._snapshot.latencies(route, sample.gateway) if needed else None
            state.counters.observe(sample, latencies)

    def _is_due(self, state: ScaledResource) -> bool:
        now = self._now()
        active = now - state.counters.last_active_at < ACTIVE_SECONDS
        return state.last.target is None or active or now - state.last.at >= IDLE_SECONDS

    def _decide(self, key: Key, state: ScaledResource, *, requested: bool = False) -> None:
        live = self._live_replicas(key)
        if live is None:
            return  # no Deployment yet; the reconcile creates it
        now, config, target = self._now(), state.config, state.last.target
        gateways = self._snapshot.gateways
        if target is not None and now - state.last.at > GAP_SECONDS:
            state.scaling_state = state.scaling_state.interrupted(now, target)
        pods = self._stores.pods.of(key)
        state.start_times.observe(pods)
        forecast_approval = self._forecast_approval(key, config, now)
        lead = state.start_times.lead(self._period)
        inputs = ScalingInputs(
            current=live if target is None else target,
            ready=sum(pod.serves for pod in pods),
            demand=state.counters.demand(now, gateways, lead.seconds),
            forecast=self._forecast(key, config, forecast_approval, lead),
            seats_per_replica=config.seats,
            latencies=state.counters.latencies(now, gateways)
            if config.has_latency_metric
            else NOT_REPORTED,
            external=self._external_values(key, config.policy),
            lead_time=lead,
            placement=self._placement(key, state, pods),
            class_arrivals=state.counters.class_arrivals(now, gateways),
            slo_targets=config.slo_targets,
            forecast_approval=forecast_approval,
        )
        decision, state.scaling_state = decide(config.policy, inputs, state.scaling_state, now)
        state.last.record(decision, inputs, now)
        self._metrics.decisions.labels(decision.reason.value).inc()
        self._decisions.add(key, decision)
        self._publish(key, state, decision, requested)

    def _publish(
        self, key: Key, state: ScaledResource, decision: Decision, requested: bool
    ) -> None:
        last, first = state.last, state.last.target is None
        last.target = decision.replicas
        changed = decision.replicas != decision.current
        if changed:
            logger.info(
                "%s: scaled from %d to %d replicas (%s): %s",
                key,
                decision.current,
                decision.replicas,
                decision.reason,
                decision.message,
            )
            self._emit(_scaled_event(key, state.config.uid, decision))
        paced = decision.at - last.shown_at >= SHOW_SECONDS or first
        if changed or (paced and _status_fields(decision) != _status_fields(last.shown)):
            last.shown, last.shown_at = decision, decision.at
            if not requested:
                self._enqueue(key)

    def _forecast_approval(
        self, key: Key, config: ScalingConfig, now: float
    ) -> ForecastApproval | None:
        requested = config.backtest_target
        if requested is None:
            return None
        backtest = self._backtest(Key(key.namespace, requested.backtest))
        return (
            NOT_READ if isinstance(backtest, Unavailable) else approval_of(requested, backtest, now)
        )

    def _external_values(
        self, key: Key, policy: ScalingPolicy
    ) -> dict[str, float | LowerBound | Unavailable]:
        requested = {m.label: m.query for m in policy.metrics if m.type is MetricType.EXTERNAL}
        self._external.retain(key, requested.values())
        return {label: self._external.latest(key, query) for label, query in requested.items()}

    def _forecast(
        self,
        key: Key,
        config: ScalingConfig,
        forecast_approval: ForecastApproval | None,
        lead: LeadTime,
    ) -> ReceivedForecast | Unavailable | None:
        metric = forecast_metric(config.policy.metrics)
        never = config.forecast.activation is Activation.NEVER
        if metric is None or never or not self._forecaster.configured:
            return None
        forecast = config.forecast
        if (
            forecast_approval is not None and not forecast_approval.approved
        ):  # an advisory request keeps it out of other series too
            forecast = replace(forecast, activation=Activation.ADVISORY)
        question = build_forecast_query(
            key,
            forecast,
            metric,
            lead.from_request_seconds,
            self._min_rate_seconds,
            down_window_seconds=config.policy.down.stabilization_window_seconds,
        )
        return self._forecaster.latest(key, question)

    def _placement(self, key: Key, state: ScaledResource, pods: Sequence[Pod]) -> Placement:
        if not state.config.policy.bindable:
            return UNKNOWN_PLACEMENT
        living = [pod for pod in pods if not (pod.terminating or pod.ended)]
        unschedulable = sum(bool(pod.unschedulable_message) for pod in living)
        snapshot, stored = self._nodes.latest(), self._stores.children[DEPLOYMENT.name].get(key)
        if isinstance(snapshot, Unavailable) or stored is None:
            schedulable = snapshot if isinstance(snapshot, Unavailable) else NODES_PENDING
            return Placement(
                sum(pod.node is not None for pod in living), unschedulable, schedulable
            )
        return Placement(
            snapshot.placed.get(key, 0), unschedulable, state.schedulable_in(snapshot, stored)
        )

    def _live_replicas(self, key: Key) -> int | None:
        stored = self._stores.children[DEPLOYMENT.name].get(key)
        return stored.replicas if stored is not None else None

    def _register_manual(self, key: Key, resource: R1Inference) -> None:
        if self._scaled.pop(key, None) is not None:
            self._forecaster.forget(key)
            self._external.retain(key, ())
        live = self._live_replicas(key)
        desired = resource.spec.replicas
        decision = fixed(desired, desired if live is None else live, self._now())
        self._manual[key] = decision
        if live != desired:
            self._decisions.add(key, decision)


def _status_fields(decision: Decision | None) -> tuple[object, ...]:
    """The fields of a decision that the status shows."""
    if decision is None:
        return ()
    contribution = decision.forecast
    unavailable = (
        contribution.unavailable.reason
        if contribution is not None and contribution.unavailable
        else None
    )
    not_approved = (
        None
        if decision.forecast_approval is None or decision.forecast_approval.approved
        else decision.forecast_approval
    )
    bound = decision.reason if decision.limited or not decision.metrics_available else None
    return (decision.replicas, decision.mode, bound, unavailable, not_approved)


def _scaled_event(key: Key, uid: str, decision: Decision) -> EventSpec:
    up = decision.replicas > decision.current
    change = f"{decision.current} to {decision.replicas}"
    return EventSpec(
        key=key,
        uid=uid,
        reason="ScaledUp" if up else "ScaledDown",
        note=f"Scaled from {change} replicas ({decision.reason}): {decision.message}",
        action="Scale",
    )
