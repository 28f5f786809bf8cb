"""History from Prometheus: range queries in chunks, on the grid of the request.

Prometheus refuses more than 11,000 points in one range query, so a fortnight of minutes
comes in pieces. Later reads fetch only what is new. The client is synchronous; callers run
it in a thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from r1_forecasting.protocol import Reason, Unavailable
from r1_forecasting.series import Series, from_samples
from r1_forecasting.series_clock import SeriesClock

CHUNK_POINTS = 10_000


class History(Protocol):
    """Where a series comes from."""

    def read(self, query: str, step: float, since: float, until: float) -> Series | Unavailable: ...


@dataclass(slots=True)
class PrometheusHistory:
    """Reads through prometheus-api-client; one HTTP session per calling thread."""

    url: str
    timeout_seconds: float = 10.0
    headers: dict[str, str] | None = None
    clock: SeriesClock = field(default_factory=SeriesClock)
    """set by every answer's Date"""
    _local: threading.local = field(default_factory=threading.local)

    def read(self, query: str, step: float, since: float, until: float) -> Series | Unavailable:
        """The query's one series on the grid of ``step`` in [since, until]."""
        samples: list[tuple[float, float]] = []
        for first, last in chunks(step, since, until):
            outcome = self._range(query, step, first, last)
            if isinstance(outcome, Unavailable):
                return outcome
            if len(outcome) > 1:
                return Unavailable(
                    Reason.FAILED,
                    f"the query returned {len(outcome)} series, needs one: wrap it in sum()",
                )
            for found in outcome:
                samples += [(float(time), float(value)) for time, value in found["values"]]
        return from_samples(samples, step, until=until)

    def _range(
        self, query: str, step: float, first: float, last: float
    ) -> list[dict[str, Any]] | Unavailable:
        try:
            result: list[dict[str, Any]] = self._client().custom_query_range(
                query,
                datetime.fromtimestamp(first, UTC),
                datetime.fromtimestamp(last, UTC),
                f"{step:.3f}",
                # The client rounds to whole seconds; a fractional step needs its own grid.
                params={"start": f"{first:.3f}", "end": f"{last:.3f}"},
            )
        except PrometheusApiClientException as error:
            said = str(error)[:300]
            if " 4" in said[:20]:
                return Unavailable(Reason.FAILED, f"Prometheus refused the query: {said}")
            return Unavailable(Reason.PROMETHEUS_UNREACHABLE, f"Prometheus answered: {said}")
        except (requests.RequestException, ValueError, KeyError) as error:
            return Unavailable(
                Reason.PROMETHEUS_UNREACHABLE, f"no answer from Prometheus: {type(error).__name__}"
            )
        return result

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            session = requests.Session()
            session.hooks["response"].append(
                lambda response, **_: self.clock.heard(response.headers.get("Date"))
            )
            self._local.client = PrometheusConnect(
                session=session,
                url=self.url.rstrip("/"),
                headers=self.headers,
                retry=Retry(total=1, backoff_factor=0.1),
                timeout=self.timeout_seconds,
            )
        return self._local.client


def chunks(step: float, since: float, until: float) -> Iterator[tuple[float, float]]:
    """First and last grid time of each query; together every grid point once."""
    first, last = math.ceil(since / step - 1e-6), math.floor(until / step + 1e-6)
    while first <= last:
        end = min(first + CHUNK_POINTS - 1, last)
        yield first * step, end * step
        first = end + 1
