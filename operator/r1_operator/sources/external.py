"""External metrics: any PromQL, asked of Prometheus in the background.

A decision never waits for Prometheus: it takes the latest value there is. A value that is too old,
not there, not one or no number is `Unavailable` with a reason, and the count is then held.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from functools import partial

from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.response import FailureKind, PrometheusError, QueryResult
from r1_operator.kube.kinds import Key
from r1_operator.plan.unavailable import LowerBound, Unavailable
from r1_operator.sources.cached_poller import UNREACHABLE, CachedPoller
from r1_operator.sources.prometheus_api import PrometheusApi

EVERY_SECONDS = 15.0
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

_Asked = tuple[Key, str]
Value = float | LowerBound


class ExternalMetrics:
    """The latest value of every query that somebody asks about."""

    def __init__(
        self,
        config: PrometheusConfig,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """The URL may be empty: then every value is `NOT_CONFIGURED`."""
        # How old a value may be is judged where it is taken; until then silence leaves it.
        self._asking: CachedPoller[_Asked, Value] = CachedPoller(
            config.url, "Prometheus", holds=lambda _: True, rng=rng, clock=clock
        )
        self._api = PrometheusApi(config)
        self._narrowed_by = config.matchers_note
        self._failures: dict[_Asked, str] = {}

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        await self._asking.close()
        await self._api.close()

    def latest(self, key: Key, query: str) -> Value | Unavailable:
        """The latest value, at once; asks again in the background when that is due."""
        if not self._asking.configured:
            return NOT_CONFIGURED
        asked = (key, query)
        self._asking.ask(asked, partial(self._get, asked), EVERY_SECONDS)
        known = self._asking.known(asked)
        if known is None:
            return PENDING
        age = self._asking.now() - known.at
        if age > STALE_SECONDS:
            message = f"The last value is {age:.0f} s old. {self._failures.get(asked, '')}".rstrip()
            return Unavailable("StaleMetric", message)
        return known.answer

    def keep(self, key: Key, queries: Iterable[str]) -> None:
        """Forget every query of the resource but these."""
        wanted = {(key, query) for query in queries}
        for asked in [one for one in self._asking.asked if one[0] == key and one not in wanted]:
            self._asking.forget(asked)
            self._failures.pop(asked, None)

    async def _get(self, asked: _Asked) -> Value | Unavailable:
        try:
            result = await self._api.query(asked[1])
        except PrometheusError as error:
            if asked in self._asking.asked:
                self._failures[asked] = f"{error}."
            return Unavailable(_REASONS[error.kind], f"{error}.")
        self._failures.pop(asked, None)
        found = read_value(result)
        if isinstance(found, Unavailable) and found.reason == "NoData":
            message = found.message.removesuffix(".") + self._narrowed_by + "."
            return Unavailable("NoData", message)
        return found


def read_value(answer: QueryResult) -> Value | Unavailable:
    """The one value of an instant query's result; of a partial one, a lower bound."""
    kind, result = answer.result_type, answer.result
    if kind not in ("scalar", "vector"):
        return Unavailable("NotOneValue", f"The query gives a {kind}; one value is needed.")
    if kind == "vector" and len(result) > 1:
        return Unavailable(
            "NotOneValue", f"The query gives {len(result)} series; wrap it in sum() or max()."
        )
    if kind == "vector" and not result:
        return Unavailable("NoData", f"The query finds no series.{_partial(answer)}")
    try:
        value = float((result if kind == "scalar" else result[0]["value"])[1])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        return Unavailable("Invalid", f"Prometheus' answer does not parse: {error!r}.")
    if not math.isfinite(value):
        return Unavailable("NotANumber", f"The query gives {value}.{_partial(answer)}")
    if answer.partial:
        return LowerBound(value, _partial(answer).strip())
    return value


def _partial(answer: QueryResult) -> str:
    if not answer.partial:
        return ""
    return f" Prometheus returned partial data: {answer.partial[0]}."
