"""The operator's own metrics, at `:8080/metrics`.

One registry for a process, made in one place and handed around, so that two operators in one test
process do not meet in the library's global registry.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from r1_operator.api.names import BacktestPhase

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class OperatorMetrics:
    """Counters and gauges; their names are a contract with dashboards and alerts."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.is_leader = Gauge(
            "r1_operator_is_leader", "1 while this process holds the Lease.", registry=self.registry
        )
        self.resources = Gauge(
            "r1_operator_resources", "R1Inferences in the view.", registry=self.registry
        )
        self.queue_length = Gauge(
            "r1_operator_queue_length", "Resources waiting or in work.", registry=self.registry
        )
        self.queue_wait = Histogram(
            "r1_operator_queue_wait_seconds",
            "From the change of a resource to the start of its plan.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconcile = Histogram(
            "r1_operator_reconcile_seconds",
            "One reconcile: observe, plan, apply.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconciles = Counter(
            "r1_operator_reconciles_total",
            "Reconciles by outcome: settled (nothing to write), written, failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.writes = Counter(
            "r1_operator_writes_total",
            "Writes to the API server by kind and why.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self.decisions = Counter(
            "r1_operator_decisions_total",
            "Scaling decisions by the reason that bound them.",
            ["reason"],
            registry=self.registry,
        )
        self.decision_seconds = Histogram(
            "r1_operator_decision_seconds",
            "One round of decisions over all resources.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.backtests_finished = Counter(
            "r1_operator_backtests_finished_total",
            "R1Backtests that ended, by phase.",
            ["phase"],
            registry=self.registry,
        )
        for phase in (BacktestPhase.SUCCEEDED, BacktestPhase.FAILED):
            self.backtests_finished.labels(
                phase.value
            )  # an alert sees the first one only from 0 on
        self.gateways = Gauge(
            "r1_operator_gateways",
            "Gateways by whether their signals could be read.",
            ["state"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "r1_operator_watch_events_total",
            "Watch events by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.relist_repairs = Counter(
            "r1_operator_relist_repairs_total",
            "Objects that the view had missed until a resync found them.",
            ["kind"],
            registry=self.registry,
        )
