"""Prometheus metrics of the last decision about each resource.

The collector reads the scaling loop's state at a scrape. So a decision costs nothing more, a deleted
resource or a missing forecast leaves no series, and the figures are those of the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from r1_common.contracts.unavailable import Unavailable
from r1_operator.controller.scaling.scaled_resource import ScaledResource
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.real_time.recommendations import capacity, metric_value
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level

_RESOURCE = ("inference_namespace", "inference")
_METRIC = (*_RESOURCE, "metric")


class ScalingCollector(Collector):
    """Gauges of every registered resource."""

    def __init__(self, registered: Callable[[], Iterable[tuple[Key, ScaledResource]]]) -> None:
        self._registered = registered

    def collect(self) -> Iterable[Metric]:
        """Yield all families; an unknown figure has no sample."""
        desired = GaugeMetricFamily(
            "r1_operator_desired_replicas", "Replicas decided for a resource.", labels=_RESOURCE
        )
        demand = GaugeMetricFamily(
            "r1_operator_demand",
            "Demand of the last decision, in the metric's unit.",
            labels=_METRIC,
        )
        demand_replicas = GaugeMetricFamily(
            "r1_operator_demand_replicas",
            "Demand of the last decision in replicas: divided by the planned load of one.",
            labels=_METRIC,
        )
        peak = GaugeMetricFamily(
            "r1_operator_forecast_peak",
            "Quantiles of the forecast peak within the lead time, in the metric's unit.",
            labels=(*_METRIC, "quantile"),
        )
        peak_replicas = GaugeMetricFamily(
            "r1_operator_forecast_peak_replicas",
            "Quantiles of the forecast peak in replicas: a peak may fill half of the headroom.",
            labels=(*_METRIC, "quantile"),
        )
        at_quantile = GaugeMetricFamily(
            "r1_operator_forecast_decision_quantile_value",
            "Forecast peak at the decision quantile, in the metric's unit.",
            labels=_METRIC,
        )
        at_quantile_replicas = GaugeMetricFamily(
            "r1_operator_forecast_decision_quantile_replicas",
            "Forecast peak at the decision quantile, in replicas.",
            labels=_METRIC,
        )
        quantile = GaugeMetricFamily(
            "r1_operator_forecast_quantile",
            "Decision quantile: the resource's own, or the newsvendor's.",
            labels=_RESOURCE,
        )
        lead = GaugeMetricFamily(
            "r1_operator_forecast_lead_seconds",
            "Lead time of the forecast peak, in seconds.",
            labels=_RESOURCE,
        )
        reserved = GaugeMetricFamily(
            "r1_operator_seats_reserved",
            "Seats that all gateways reserve for a class and those above it.",
            labels=(*_RESOURCE, "class"),
        )
        for key, state in self._registered():
            for reservation in state.last.seat_reservations:
                reserved.add_metric((*key, reservation.name.value), reservation.seats)
            if state.last.target is not None:
                desired.add_metric(tuple(key), state.last.target)
            if state.last.inputs is None:
                continue
            policy = state.config.policy
            counted = [metric for metric in policy.metrics if metric.counted]
            per_replica = {m.type: capacity(m, policy.target_utilization) for m in counted}
            # A quantile may fill half of the headroom, as in a decision.
            at_peak = {m.type: capacity(m, policy.peak_utilization) for m in counted}
            observed_demand, forecast = state.last.inputs.demand, state.last.inputs.forecast
            for kind, one in per_replica.items():
                value = (
                    observed_demand
                    if isinstance(observed_demand, Unavailable)
                    else metric_value(kind, observed_demand)
                )
                if not isinstance(value, Unavailable):
                    demand.add_metric((*key, kind.value), value)
                    demand_replicas.add_metric((*key, kind.value), value / one)
            if isinstance(forecast, ReceivedForecast) and forecast.metric in per_replica:
                lead.add_metric(tuple(key), forecast.lead_seconds)
                level = policy.peak_quantile(forecast.lead_seconds)
                quantile.add_metric(tuple(key), level)
                if forecast.peak_over_lead:
                    value, kind = at_level(forecast.peak_over_lead, level), forecast.metric
                    at_quantile.add_metric((*key, kind.value), value)
                    at_quantile_replicas.add_metric((*key, kind.value), value / at_peak[kind])
                for level, value in sorted(forecast.peak_over_lead.items()):
                    labels = (*key, forecast.metric.value, f"{level:g}")
                    peak.add_metric(labels, value)
                    peak_replicas.add_metric(labels, value / at_peak[forecast.metric])
        yield from (desired, demand, demand_replicas, peak, peak_replicas)
        yield from (at_quantile, at_quantile_replicas, quantile, lead, reserved)
