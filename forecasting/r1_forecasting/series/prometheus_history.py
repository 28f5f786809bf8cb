"""History from Prometheus: range queries in chunks, on the grid of the request.

Prometheus refuses more than 11,000 points in one range query, so 14 days in steps of a minute take
several queries. The client is synchronous; callers run it in a thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from prometheus_api_client import PrometheusConnect

from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.response import FailureKind, PrometheusError, QueryResult
from r1_common.prometheus.selectors import add_matchers
from r1_common.untrusted_json import convert_errors
from r1_forecasting.series.prometheus_session import PrometheusSession
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.series.series_clock import SeriesClock
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

CHUNK_POINTS = 10_000


class DemandHistory(Protocol):
    """Source of a series."""

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable: ...


@dataclass(slots=True)
class PrometheusHistory:
    """Reads through prometheus-api-client; one HTTP session per calling thread."""

    config: PrometheusConfig
    timeout_seconds: float = 10.0
    clock: SeriesClock = field(default_factory=SeriesClock)
    """Set by the Date header of every response."""
    _local: threading.local = field(default_factory=threading.local)

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        """Return the query's only series on the grid of ``step`` in [since, until].

        A partial response is refused: a sum with missing parts would train on too low a demand.
        """
        samples: list[tuple[float, float]] = []
        query_with_matchers = add_matchers(query, self.config.matchers)
        try:
            for first, last in chunks(step, since, until):
                samples += _samples(self._range(query_with_matchers, step, first, last))
        except _Unusable as unusable:
            return ForecastUnavailable(unusable.reason, str(unusable))
        except PrometheusError as error:
            refused = error.kind is FailureKind.QUERY
            reason = (
                UnavailableReason.FAILED if refused else UnavailableReason.PROMETHEUS_UNREACHABLE
            )
            return ForecastUnavailable(reason, str(error))
        found = from_samples(samples, step, until=until)
        if isinstance(found, ForecastUnavailable):
            return replace(found, message=found.message + self.config.matchers_note)
        return found

    def _range(self, query: str, step: float, first: float, last: float) -> QueryResult:
        client = self._client()
        client.custom_query_range(
            query,
            datetime.fromtimestamp(first, UTC),
            datetime.fromtimestamp(last, UTC),
            f"{step:.3f}",
            # The client rounds to whole seconds; a fractional step needs exact times.
            params={"start": f"{first:.3f}", "end": f"{last:.3f}"},
        )
        session: PrometheusSession = self._local.session
        if session.last is None:
            raise PrometheusError(FailureKind.INVALID, "prometheus-api-client sent no request")
        return session.last

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            session = PrometheusSession(self.config)
            session.hooks["response"].append(
                lambda response, **_: self.clock.update(response.headers.get("Date"))
            )
            self._local.session = session
            self._local.client = PrometheusConnect(
                url=self.config.url, session=session, timeout=self.timeout_seconds
            )
        return self._local.client


class _Unusable(Exception):
    """The result is not the history of one series."""

    def __init__(self, message: str, reason: UnavailableReason = UnavailableReason.FAILED) -> None:
        super().__init__(message)
        self.reason = reason


def _samples(found: QueryResult) -> list[tuple[float, float]]:
    """Time (s) and value of each sample, NaN and infinite ones included."""
    if found.partial:
        raise _Unusable(
            f"Prometheus returned partial data, so there is no forecast: {found.partial[0]}",
            UnavailableReason.PARTIAL_DATA,
        )
    if found.result_type != "matrix":
        raise _Unusable(
            f"the query returned a {found.result_type}, needs a matrix (a series over time)"
        )
    if len(found.result) > 1:
        raise _Unusable(
            f"the query returned {len(found.result)} series, needs one: wrap it in sum()"
        )
    with convert_errors(_Unusable, "Prometheus returned an invalid series"):
        return [
            (float(time), float(value)) for one in found.result for time, value in one["values"]
        ]


def chunks(step: float, since: float, until: float) -> Iterator[tuple[float, float]]:
    """First and last grid time of each query; together they cover every grid point once."""
    first, last = math.ceil(since / step - 1e-6), math.floor(until / step + 1e-6)
    while first <= last:
        end = min(first + CHUNK_POINTS - 1, last)
        yield first * step, end * step
        first = end + 1
