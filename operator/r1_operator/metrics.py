"""Metrics of the operator, at `:8080/metrics`.

Each operator has its own registry, so that two operators in one test process do not share the global
registry of the library.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from r1_operator.api.names import BacktestPhase

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class OperatorMetrics:
    """Counters, gauges and histograms; dashboards and alerts depend on their names."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.is_leader = Gauge(
            "r1_operator_is_leader",
            "1 while this process holds the Lease, else 0.",
            registry=self.registry,
        )
        self.resources = Gauge(
            "r1_operator_resources", "Number of R1Inferences in the store.", registry=self.registry
        )
        self.queue_length = Gauge(
            "r1_operator_queue_length",
            "Number of R1Inferences that are queued or being reconciled.",
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "r1_operator_queue_wait_seconds",
            "Time from the change of an R1Inference to the start of its reconcile.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconcile = Histogram(
            "r1_operator_reconcile_seconds",
            "Duration of one reconcile: observe, plan, apply.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconciles = Counter(
            "r1_operator_reconciles_total",
            "Reconciles by outcome: unchanged (no write), updated, failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.writes = Counter(
            "r1_operator_writes_total",
            "Writes to the API server by kind and reason (create, change, repair, delete, status).",
            ["kind", "reason"],
            registry=self.registry,
        )
        self.decisions = Counter(
            "r1_operator_decisions_total",
            "Scaling decisions by the reason that set the count.",
            ["reason"],
            registry=self.registry,
        )
        self.decision_seconds = Histogram(
            "r1_operator_decision_seconds",
            "Duration of the scaling decisions of all R1Inferences.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.backtests_finished = Counter(
            "r1_operator_backtests_finished_total",
            "Finished R1Backtests by phase.",
            ["phase"],
            registry=self.registry,
        )
        for phase in (BacktestPhase.SUCCEEDED, BacktestPhase.FAILED):
            self.backtests_finished.labels(phase.value)  # the alert needs the series to start at 0
        self.gateways = Gauge(
            "r1_operator_gateways",
            "Number of gateways by state: reachable or unreachable.",
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
            "Objects that a relist repaired after missed watch events, by kind.",
            ["kind"],
            registry=self.registry,
        )
