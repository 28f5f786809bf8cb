"""External metrics: any PromQL, asked of Prometheus in the background.

A decision never waits for Prometheus: it takes the latest value there is. A value that is too old,
not there, not one or no number is `Unavailable` with a reason, and the count is then held.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from functools import partial

from r1_operator.kube.kinds import Key
from r1_operator.plan.unavailable import Unavailable
from r1_operator.sources.asking import Asking

EVERY_SECONDS = 15.0
STALE_SECONDS = 60.0

NOT_CONFIGURED = Unavailable(
    "NoPrometheus", "External metrics need Prometheus: set R1_PROMETHEUS_URL of the operator."
)
PENDING = Unavailable("Pending", "Prometheus has not answered yet.")

_Asked = tuple[Key, str]


class ExternalMetrics:
    """The latest value of every query that somebody asks about."""

    def __init__(
        self,
        url: str,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`url` may be empty: then every value is `NOT_CONFIGURED`."""
        # How old a value may be is judged where it is taken; until then silence leaves it.
        self._asking: Asking[_Asked, float] = Asking(
            url, "Prometheus", holds=lambda _: True, rng=rng, clock=clock
        )

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        await self._asking.close()

    def latest(self, key: Key, query: str) -> float | Unavailable:
        """The latest value, at once; asks again in the background when that is due."""
        if not self._asking.configured:
            return NOT_CONFIGURED
        asked = (key, query)
        self._asking.ask(asked, partial(self._get, query), EVERY_SECONDS)
        known = self._asking.known(asked)
        if known is None:
            return PENDING
        age = self._asking.now() - known.at
        if age > STALE_SECONDS:
            return Unavailable("StaleMetric", f"Prometheus has not answered for {age:.0f} s.")
        return known.answer

    def keep(self, key: Key, queries: Iterable[str]) -> None:
        """Forget every query of the resource but these."""
        wanted = {(key, query) for query in queries}
        for asked in [one for one in self._asking.asked if one[0] == key and one not in wanted]:
            self._asking.forget(asked)

    async def _get(self, query: str) -> float | Unavailable:
        said = await self._asking.fetch("GET", "/api/v1/query", params={"query": query})
        return said if isinstance(said, Unavailable) else read_value(said[1])


def read_value(answer: object) -> float | Unavailable:
    """The one value of an instant query's answer."""
    try:
        if not isinstance(answer, dict) or answer["status"] != "success":
            said = answer.get("error") if isinstance(answer, dict) else answer
            return Unavailable("Refused", f"Prometheus refused the query: {str(said)[:300]}")
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        if kind == "scalar":
            value = float(result[1])
        elif kind != "vector":
            return Unavailable("NotOneValue", f"The query gives a {kind}; one value is needed.")
        elif not result:
            return Unavailable("NoData", "The query finds no series.")
        elif len(result) > 1:
            return Unavailable(
                "NotOneValue", f"The query gives {len(result)} series; wrap it in sum() or max()."
            )
        else:
            value = float(result[0]["value"][1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Unavailable("Invalid", f"Prometheus' answer does not parse: {error!r}.")
    if not math.isfinite(value):
        return Unavailable("NotANumber", f"The query gives {value}.")
    return value
