"""What the forecaster says about itself, in Prometheus' words."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from r1_forecasting.selection.training import FitOutcome
from r1_forecasting.service.series_forecaster import SeriesForecaster


class ForecastMetrics:
    """Metrics of one service; series of a subject go when the subject goes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.answers = Counter(
            "r1_forecast_answers",
            "Answers by state and reason",
            ["state", "reason"],
            registry=self.registry,
        )
        self.answer_seconds = Histogram(
            "r1_forecast_answer_seconds",
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
            ["subject", "level"],
            registry=self.registry,
        )
        self.gate_acts = Gauge(
            "r1_forecast_gate_acts",
            "1 while a model may act, 0 while scaling is left to real time",
            ["subject"],
            registry=self.registry,
        )
        self.decision_cost = Gauge(
            "r1_forecast_decision_cost",
            "Backtested decision cost relative to the last value's",
            ["subject", "model"],
            registry=self.registry,
        )
        self.observed = Gauge(
            "r1_forecast_observed",
            "Newest observation, in the unit of the subject's query",
            ["subject"],
            registry=self.registry,
        )
        self.peak = Gauge(
            "r1_forecast_peak",
            "Quantile of the highest demand over the lead, in the unit of the subject's query",
            ["subject", "level"],
            registry=self.registry,
        )
        self.decision_peak = Gauge(
            "r1_forecast_decision_peak",
            "The peak over the lead at the level that decisions are scored at, named by the label",
            ["subject", "level"],
            registry=self.registry,
        )
        self.fit_cpu = Counter(
            "r1_forecast_fit_cpu_seconds",
            "CPU time that fits of learned models took",
            ["model"],
            registry=self.registry,
        )
        self.subjects = Gauge(
            "r1_forecast_series", "Subjects that are kept", registry=self.registry
        )
        self.waiting = Gauge(
            "r1_forecast_training_waiting",
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

    def show(self, name: str, subject: SeriesForecaster) -> None:
        """Bring the gauges of a subject up to date after an answer."""
        shown: set[tuple[Gauge, tuple[str, ...]]] = set()

        def put(gauge: Gauge, labels: tuple[str, ...], value: float) -> None:
            if math.isfinite(value):
                gauge.labels(*labels).set(value)
                shown.add((gauge, labels))

        made = subject.forecast
        put(self.gate_acts, (name,), float(made is not None and made.gate.acts))
        if made is not None:
            for model, cost in made.gate.scores.items():
                put(self.decision_cost, (name, model), cost)
            put(self.observed, (name,), made.last_observed)
            for level, peak in zip(made.levels, made.peak_over_lead, strict=True):
                put(self.peak, (name, f"{level:g}"), peak)
                share, _ = subject.ledger.live(level)
                if share is not None:
                    put(self.coverage, (name, f"{level:g}"), share)
                judged = subject.judgement
                if judged is not None and level == judged.request.decision_level:
                    put(self.decision_peak, (name, f"{level:g}"), peak)
        self._remove(self._shown.get(name, set()) - shown)
        self._shown[name] = shown

    def fitted(self, outcome: FitOutcome) -> None:
        """Note a fit, whatever came of it."""
        self.fit_seconds.labels(outcome.model).observe(outcome.seconds)
        self.fit_cpu.labels(outcome.model).inc(outcome.cpu_seconds)

    def forget(self, name: str) -> None:
        self._remove(self._shown.pop(name, set()))

    @staticmethod
    def _remove(gone: set[tuple[Gauge, tuple[str, ...]]]) -> None:
        for gauge, labels in gone:
            gauge.remove(*labels)
