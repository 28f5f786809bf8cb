"""Prometheus metrics of the forecaster."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.fit import FitOutcome


class ForecastMetrics:
    """Metrics of one service; the gauges of a dropped series are removed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.responses = Counter(
            "r1_forecast_responses",
            "Responses of the forecaster by state and reason",
            ["state", "reason"],
            registry=self.registry,
        )
        self.response_seconds = Histogram(
            "r1_forecast_response_seconds",
            "Time to respond to a forecast request, in seconds",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.fit_seconds = Histogram(
            "r1_forecast_fit_seconds",
            "Wall time of one fit of a learned model, in seconds",
            ["model"],
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120),
            registry=self.registry,
        )
        self.coverage = Gauge(
            "r1_forecast_coverage",
            "Share of issued peaks over the lead time whose outcome was at or below the quantile",
            ["series", "level"],
            registry=self.registry,
        )
        self.gate_open = Gauge(
            "r1_forecast_gate_open",
            "1 while the gate lets scaling use the forecast, 0 while scaling uses current demand only",
            ["series"],
            registry=self.registry,
        )
        self.decision_cost = Gauge(
            "r1_forecast_decision_cost",
            "Backtested decision cost of a model divided by that of the last-value baseline",
            ["series", "model"],
            registry=self.registry,
        )
        self.observed = Gauge(
            "r1_forecast_observed",
            "Newest observation, in the unit of the series' query",
            ["series"],
            registry=self.registry,
        )
        self.peak = Gauge(
            "r1_forecast_peak",
            "Quantile of the highest demand over the lead time, in the unit of the series' query",
            ["series", "level"],
            registry=self.registry,
        )
        self.decision_peak = Gauge(
            "r1_forecast_decision_peak",
            "Peak over the lead time at the quantile that scaling decisions use",
            ["series", "level"],
            registry=self.registry,
        )
        self.fit_cpu = Counter(
            "r1_forecast_fit_cpu_seconds",
            "CPU time spent on fits of learned models, in seconds",
            ["model"],
            registry=self.registry,
        )
        self.series = Gauge(
            "r1_forecast_series", "Number of series with a forecaster", registry=self.registry
        )
        self.queue_length = Gauge(
            "r1_forecast_training_queue_length",
            "Number of series whose models are due for training",
            registry=self.registry,
        )
        self.shards = Gauge(
            "r1_forecast_shards",
            "Number of shards in the list that this shard reads",
            registry=self.registry,
        )
        self.shards.set(1)
        self.forwarded = Counter(
            "r1_forecast_forwarded",
            "Requests forwarded to the shard that owns the series, by outcome",
            ["shard", "outcome"],
            registry=self.registry,
        )
        self.forward_seconds = Histogram(
            "r1_forecast_forward_seconds",
            "Time of a forwarded request, in seconds",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self._shown: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}

    def update(self, name: str, forecaster: SeriesForecaster) -> None:
        """Update the gauges of a series after a response."""
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
        """Record a fit, successful or not."""
        self.fit_seconds.labels(outcome.model).observe(outcome.seconds)
        self.fit_cpu.labels(outcome.model).inc(outcome.cpu_seconds)

    def remove(self, name: str) -> None:
        self._remove_gauges(self._shown.pop(name, set()))

    @staticmethod
    def _remove_gauges(removed: set[tuple[Gauge, tuple[str, ...]]]) -> None:
        for gauge, labels in removed:
            gauge.remove(*labels)
