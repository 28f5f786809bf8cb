"""What the last decision about each resource saw and said, for Prometheus.

Read from the scaling loop's state when it is scraped: a decision pays nothing for it, a resource
that has gone or a forecast that is not there leaves no series behind, and the figures are those that
were decided on and not asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from r1_operator.controller.scaling.scaling_loop import Scaled
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.recommendations import capacity, metric_value
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level
from r1_operator.plan.unavailable import Unavailable

_RESOURCE = ("inference_namespace", "inference")
_METRIC = (*_RESOURCE, "metric")


class ScalingCollector(Collector):
    """Gauges of every resource that the loop follows."""

    def __init__(self, followed: Callable[[], Iterable[tuple[Key, Scaled]]]) -> None:
        self._followed = followed

    def collect(self) -> Iterable[Metric]:
        """All families; a figure that is not known has no sample."""
        desired = GaugeMetricFamily(
            "r1_operator_desired_replicas", "Replicas a resource should have.", labels=_RESOURCE
        )
        demand = GaugeMetricFamily(
            "r1_operator_demand", "Demand as decided on, in the metric's unit.", labels=_METRIC
        )
        worth = GaugeMetricFamily(
            "r1_operator_demand_replicas",
            "The same in replicas: divided by what is planned on one.",
            labels=_METRIC,
        )
        peak = GaugeMetricFamily(
            "r1_operator_forecast_peak",
            "Quantiles of the highest demand within the lead, in the metric's unit.",
            labels=(*_METRIC, "quantile"),
        )
        peak_worth = GaugeMetricFamily(
            "r1_operator_forecast_peak_replicas",
            "The same in replicas, as decisions count it: it may fill half of the headroom.",
            labels=(*_METRIC, "quantile"),
        )
        planned = GaugeMetricFamily(
            "r1_operator_forecast_decision_quantile_value",
            "The quantile of that demand which replicas are made for, in the metric's unit.",
            labels=_METRIC,
        )
        planned_worth = GaugeMetricFamily(
            "r1_operator_forecast_decision_quantile_replicas",
            "The same in replicas, as decisions count it.",
            labels=_METRIC,
        )
        quantile = GaugeMetricFamily(
            "r1_operator_forecast_quantile",
            "Which quantile that is: the resource's own, or what its costs come to.",
            labels=_RESOURCE,
        )
        lead = GaugeMetricFamily(
            "r1_operator_forecast_lead_seconds",
            "The lead: how far the forecast's peak looks ahead.",
            labels=_RESOURCE,
        )
        held = GaugeMetricFamily(
            "r1_operator_seats_reserved",
            "Seats that the gateways together are told to keep free for a class and those above it.",
            labels=(*_RESOURCE, "class"),
        )
        for key, state in self._followed():
            for kept in state.held_back:
                held.add_metric((*key, kept.name.value), kept.seats)
            if state.target is not None:
                desired.add_metric(tuple(key), state.target)
            if state.observed is None:
                continue
            policy = state.policy
            counted = [metric for metric in policy.metrics if metric.counted]
            per_replica = {m.type: capacity(m, policy.target_utilization) for m in counted}
            # A quantile may fill half of the headroom, and that is how it is decided on.
            at_peak = {m.type: capacity(m, policy.peak_utilization) for m in counted}
            seen, forecast = state.observed.demand, state.observed.forecast
            for kind, one in per_replica.items():
                value = seen if isinstance(seen, Unavailable) else metric_value(kind, seen)
                if not isinstance(value, Unavailable):
                    demand.add_metric((*key, kind.value), value)
                    worth.add_metric((*key, kind.value), value / one)
            if isinstance(forecast, ReceivedForecast) and forecast.metric in per_replica:
                lead.add_metric(tuple(key), forecast.lead_seconds)
                level = policy.peak_quantile(forecast.lead_seconds)
                quantile.add_metric(tuple(key), level)
                if forecast.peak_over_lead:
                    value, kind = at_level(forecast.peak_over_lead, level), forecast.metric
                    planned.add_metric((*key, kind.value), value)
                    planned_worth.add_metric((*key, kind.value), value / at_peak[kind])
                for level, value in sorted(forecast.peak_over_lead.items()):
                    labels = (*key, forecast.metric.value, f"{level:g}")
                    peak.add_metric(labels, value)
                    peak_worth.add_metric(labels, value / at_peak[forecast.metric])
        yield from (desired, demand, worth, peak, peak_worth)
        yield from (planned, planned_worth, quantile, lead, held)
