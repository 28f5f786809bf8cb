"""Series of a mixture of experts, read from the backend at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from r1_runtime.experts.residency import ExpertTotals


class ExpertCollector(Collector):
    """Totals of the experts; no series before the first step of a model with experts.

    Args:
        totals: reads them, from any thread.
        labels: of every series.
    """

    def __init__(self, totals: Callable[[], ExpertTotals], labels: Mapping[str, str]) -> None:
        self._totals = totals
        self._names, self._values = list(labels), list(labels.values())

    def collect(self) -> Iterator[Metric]:
        """The series of this moment."""
        totals = self._totals()
        if not totals.rows:
            return
        mean = "Experts per token and layer, mean since the start."
        yield self._gauge("r1_runtime_experts_per_token", mean, totals.mean_experts)
        yield self._counter(
            "r1_runtime_expert_rows", "Tokens, once per layer with experts.", totals.rows
        )
        yield self._counter(
            "r1_runtime_experts_chosen", "Experts that computed them.", totals.chosen
        )
        if not totals.file_bytes:
            return
        yield self._counter("r1_runtime_expert_hits", "Reads of experts in memory.", totals.hits)
        yield self._counter("r1_runtime_expert_misses", "Reads of mapped experts.", totals.misses)
        promotions = "Mapped experts that came into memory."
        yield self._counter("r1_runtime_expert_promotions", promotions, totals.promotions)
        resident = "Bytes of the experts in memory."
        yield self._gauge("r1_runtime_expert_resident_bytes", resident, totals.resident_bytes)
        packed = "Bytes of the file with all packed experts."
        yield self._gauge("r1_runtime_expert_file_bytes", packed, totals.file_bytes)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=self._names)
        family.add_metric(self._values, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=self._names)
        family.add_metric(self._values, value)
        return family
