"""What the forecaster says about itself, in Prometheus' words."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.fit import FitOutcome


class ForecastMetrics:
    """Metrics of one service; series of a subject go when the subject goes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.responses = Counter(
            "r1_forecast_responses",
            "Answers by state and reason",
            ["state", "reason"],
            registry=self.registry,
        )
        self.response_seconds = Histogram(
            "r1_forecast_response_seconds",
            "Time to answer",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.fit_seconds = Histogram(
            "r1_forecast_fit_seconds",
            "Time to fit a learned model",
            ["model"],
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120),
            registry=self.registry,
        )
        self.coverage = Gauge(
            "r1_forecast_coverage",
            "Share of announced peaks over the lead that stayed at or below their quantile",
            ["series", "level"],
            registry=self.registry,
        )
        self.gate_open = Gauge(
            "r1_forecast_gate_open",
            "1 while a model may act, 0 while scaling is left to real time",
            ["series"],
            registry=self.registry,
        )
        self.decision_cost = Gauge(
            "r1_forecast_decision_cost",
            "Backtested decision cost relative to the last value's",
            ["series", "model"],
            registry=self.registry,
        )
        self.observed = Gauge(
            "r1_forecast_observed",
            "Newest observation, in the unit of the subject's query",
            ["series"],
            registry=self.registry,
        )
        self.peak = Gauge(
            "r1_forecast_peak",
            "Quantile of the highest demand over the lead, in the unit of the subject's query",
            ["series", "level"],
            registry=self.registry,
        )
        self.decision_peak = Gauge(
            "r1_forecast_decision_peak",
            "The peak over the lead at the level that decisions are scored at, named by the label",
            ["series", "level"],
            registry=self.registry,
        )
        self.fit_cpu = Counter(
            "r1_forecast_fit_cpu_seconds",
            "CPU time that fits of learned models took",
            ["model"],
            registry=self.registry,
        )
        self.series = Gauge("r1_forecast_series", "Subjects that are kept", registry=self.registry)
        self.queue_length = Gauge(
            "r1_forecast_training_queue_length",
            "Subjects whose models are due to be trained",
            registry=self.registry,
        )
        self.shards = Gauge(
            "r1_forecast_shards",
            "Shards of this release as this one sees them",
            registry=self.registry,
        )
        self.shards.set(1)
        self.forwarded = Counter(
            "r1_forecast_forwarded",
            "Questions put to the shard that keeps their subject, and how they ended",
            ["shard", "outcome"],
            registry=self.registry,
        )
        self.forward_seconds = Histogram(
            "r1_forecast_forward_seconds",
            "Time that a forwarded question took",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self._shown: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}

    def update(self, name: str, forecaster: SeriesForecaster) -> None:
        """Bring the gauges of a subject up to date after an answer."""
        shown: set[tuple[Gauge, tuple[str, ...]]] = set()

        def put(gauge: Gauge, labels: tuple[str, ...], value: float) -> None:
            if math.isfinite(value):
                gauge.labels(*labels).set(value)
                shown.add((gauge, labels))

        issued = forecaster.forecast
        put(self.gate_open, (name,), float(issued is not None and issued.gate.open))
        if issued is not None:
            for model, cost in issued.gate.scores.items():
                put(self.decision_cost, (name, model), cost)
            put(self.observed, (name,), issued.last_observed)
            for level, peak in zip(issued.levels, issued.peak_over_lead, strict=True):
                put(self.peak, (name, f"{level:g}"), peak)
                share, _ = forecaster.coverage_tracker.live(level)
                if share is not None:
                    put(self.coverage, (name, f"{level:g}"), share)
                evaluation = forecaster.evaluation
                if evaluation is not None and level == evaluation.request.decision_level:
                    put(self.decision_peak, (name, f"{level:g}"), peak)
        self._remove_gauges(self._shown.get(name, set()) - shown)
        self._shown[name] = shown

    def fitted(self, outcome: FitOutcome) -> None:
        """Note a fit, whatever came of it."""
        self.fit_seconds.labels(outcome.model).observe(outcome.seconds)
        self.fit_cpu.labels(outcome.model).inc(outcome.cpu_seconds)

    def remove(self, name: str) -> None:
        self._remove_gauges(self._shown.pop(name, set()))

    @staticmethod
    def _remove_gauges(removed: set[tuple[Gauge, tuple[str, ...]]]) -> None:
        for gauge, labels in removed:
            gauge.remove(*labels)
