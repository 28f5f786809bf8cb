"""One query by the Prometheus client of the forecaster and by that of the operator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import PrometheusConfig, load_config
from r1_forecasting.series.prometheus_history import PrometheusHistory
from r1_forecasting.series.series import Series
from r1_forecasting.unavailable import ForecastUnavailable
from r1_operator.kube.kinds import Key
from r1_operator.plan.unavailable import LowerBound
from r1_operator.sources.external import ExternalMetrics
from scripted_prometheus import NOW

Outcome = float | LowerBound | tuple[str, str]
"""A value, or the reason and message of a missing one."""
Ask = Callable[[PrometheusConfig], Outcome]


def configured(url: str, **fields: Any) -> PrometheusConfig:
    return load_config(url, json.dumps(fields))


def ask_history(config: PrometheusConfig) -> Outcome:
    """The newest value that the forecaster reads."""
    history = PrometheusHistory(config, timeout_seconds=5.0)
    series = history.read("sum(demand)", 60.0, NOW - 600, NOW)
    if hasattr(history._local, "session"):
        history._local.session.close()
    if isinstance(series, Series):
        last = series.last()
        assert last is not None
        return last[1]
    assert isinstance(series, ForecastUnavailable)
    return series.reason.value, series.message


def ask_external(config: PrometheusConfig, query: str = "sum(demand)") -> Outcome:
    """The value that the operator reads."""

    async def latest() -> Outcome:
        source, key = ExternalMetrics(config), Key("default", "r1")
        try:
            source.latest(key, query)
            await asyncio.gather(*source._poller._tasks.values())
            value = source.latest(key, query)
        finally:
            await source.close()
        if isinstance(value, Unavailable):
            return value.reason, value.message
        return value

    return asyncio.run(latest())


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
