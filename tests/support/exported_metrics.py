"""The metrics that operator, gateway and forecaster export, from their registries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from r1_forecasting.service.metrics import ForecastMetrics
from r1_gateway.telemetry.metrics import FAMILIES
from r1_gateway.telemetry.process_metrics import PROCESS_FAMILIES
from r1_gateway.telemetry.tenant_metrics import TENANT_FAMILIES
from r1_operator.controller.scaling.scaling_metrics import ScalingCollector
from r1_operator.metrics import OperatorMetrics

SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


class Family(NamedTuple):
    """A metric's name without suffix, its type and its labels."""

    name: str
    kind: str
    labels: tuple[str, ...]


def exported() -> list[Family]:
    """All metric families, with or without values."""
    return [
        *_registered(OperatorMetrics().registry),
        *_registered(ForecastMetrics().registry),
        *_gateway(),
        *_scaling(),
    ]


def _registered(registry: CollectorRegistry) -> Iterator[Family]:
    collectors: list[Any] = list(registry._collector_to_names)
    for collector in collectors:
        if hasattr(collector, "_labelnames"):
            yield Family(collector._name, collector._type, tuple(collector._labelnames))


def _gateway() -> Iterator[Family]:
    for family in (*FAMILIES, *PROCESS_FAMILIES.values(), *TENANT_FAMILIES):
        yield Family(family.name, family.type, family.labels)


def _scaling() -> Iterator[Family]:
    for family in ScalingCollector(lambda: ()).collect():
        yield Family(family.name, family.type, tuple(getattr(family, "_labelnames", ())))
