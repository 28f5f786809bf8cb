"""External metrics: PromQL queries, polled from Prometheus in the background.

A decision never waits for Prometheus: it uses the latest value. A value that is stale, missing, not a
single value or not a number is `Unavailable` with a reason; the count then stays.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from functools import partial

from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.response import FailureKind, PrometheusError, QueryResult
from r1_operator.kube.kinds import Key
from r1_operator.plan.unavailable import LowerBound
from r1_operator.sources.cached_poller import UNREACHABLE, CachedPoller
from r1_operator.sources.prometheus_api import PrometheusApi

PERIOD_SECONDS = 15.0
STALE_SECONDS = 60.0

NOT_CONFIGURED = Unavailable(
    "NoPrometheus", "External metrics need Prometheus: set R1_PROMETHEUS_URL of the operator."
)
PENDING = Unavailable("Pending", "Prometheus has not answered yet.")

_REASONS = {
    FailureKind.UNREACHABLE: UNREACHABLE,
    FailureKind.DENIED: "Refused",
    FailureKind.QUERY: "Refused",
    FailureKind.INVALID: "Invalid",
    FailureKind.CONFIG: "CredentialsUnusable",
}

_QueryKey = tuple[Key, str]
Value = float | LowerBound


class ExternalMetrics:
    """The latest value of every polled query."""

    def __init__(
        self,
        config: PrometheusConfig,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """With an empty URL every value is `NOT_CONFIGURED`."""
        # `latest` checks the age of a value; until then an unreachable Prometheus does not replace it.
        self._poller: CachedPoller[_QueryKey, Value] = CachedPoller(
            config.url, "Prometheus", is_valid=lambda _: True, rng=rng, clock=clock
        )
        self._api = PrometheusApi(config)
        self._narrowed_by = config.matchers_note
        self._failures: dict[_QueryKey, str] = {}

    async def close(self) -> None:
        """Cancel the requests and close the connections."""
        await self._poller.close()
        await self._api.close()

    def latest(self, key: Key, query: str) -> Value | Unavailable:
        """Return the latest value; send a request in the background if one is due."""
        if not self._poller.configured:
            return NOT_CONFIGURED
        query_key = (key, query)
        self._poller.poll(query_key, partial(self._get, query_key), PERIOD_SECONDS)
        cached = self._poller.latest(query_key)
        if cached is None:
            return PENDING
        age = self._poller.now() - cached.at
        if age > STALE_SECONDS:
            message = (
                f"The last value is {age:.0f} s old. {self._failures.get(query_key, '')}".rstrip()
            )
            return Unavailable("StaleMetric", message)
        return cached.value

    def retain(self, key: Key, queries: Iterable[str]) -> None:
        """Stop polling all other queries of the resource."""
        wanted = {(key, query) for query in queries}
        for query_key in [
            each for each in self._poller.keys if each[0] == key and each not in wanted
        ]:
            self._poller.forget(query_key)
            self._failures.pop(query_key, None)

    async def _get(self, query_key: _QueryKey) -> Value | Unavailable:
        try:
            result = await self._api.query(query_key[1])
        except PrometheusError as error:
            if query_key in self._poller.keys:
                self._failures[query_key] = f"{error}."
            return Unavailable(_REASONS[error.kind], f"{error}.")
        self._failures.pop(query_key, None)
        value = read_value(result)
        if isinstance(value, Unavailable) and value.reason == "NoData":
            message = value.message.removesuffix(".") + self._narrowed_by + "."
            return Unavailable("NoData", message)
        return value


def read_value(response: QueryResult) -> Value | Unavailable:
    """The single value of an instant query; a lower bound for a partial result."""
    kind, result = response.result_type, response.result
    if kind not in ("scalar", "vector"):
        return Unavailable("NotOneValue", f"The query returns a {kind}, but one value is required.")
    if kind == "vector" and len(result) > 1:
        return Unavailable(
            "NotOneValue", f"The query returns {len(result)} series: wrap it in sum() or max()."
        )
    if kind == "vector" and not result:
        return Unavailable("NoData", f"The query returns no series.{_partial(response)}")
    try:
        value = float((result if kind == "scalar" else result[0]["value"])[1])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        return Unavailable("Invalid", f"The response of Prometheus cannot be parsed: {error!r}.")
    if not math.isfinite(value):
        return Unavailable("NotANumber", f"The query returns {value}.{_partial(response)}")
    if response.partial:
        return LowerBound(value, _partial(response).strip())
    return value


def _partial(response: QueryResult) -> str:
    if not response.partial:
        return ""
    return f" Prometheus returned partial data: {response.partial[0]}."
