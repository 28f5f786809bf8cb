"""The gateway's `/signals` answer, read into samples.

The answer comes from another process and another release: what does not parse is `Unavailable`
for the resource it concerns, and the other resources keep their figures.
"""

from collections.abc import Mapping

from r1_operator.plan.demand import CounterSample
from r1_operator.plan.unavailable import Unavailable


def read_signals(
    answer: object, received_at: float
) -> dict[str, CounterSample | Unavailable] | Unavailable:
    """Return one sample per `namespace/name`, per-class figures added up.

    `received_at` is our own clock (unix seconds) at the answer.
    """
    try:
        whole = _mapping(answer, "the answer")
        routes = _mapping(whole.get("routes"), "routes")
        gateway = str(whole["gateway"])
        started_at = _number(whole.get("startedAt"), "startedAt")
        at = _number(whole.get("at"), "at")
    except (KeyError, TypeError) as error:
        return Unavailable("InvalidSignals", f"The gateway's signals do not parse: {error}.")
    samples: dict[str, CounterSample | Unavailable] = {}
    for name, figures in routes.items():
        try:
            route = _mapping(figures, name)
            samples[name] = CounterSample(
                gateway=gateway,
                started_at=started_at,
                at=at,
                received_at=received_at,
                offered_requests=_total(route, "offeredRequests"),
                offered_tokens=_total(route, "offeredTokens"),
                completed=_total(route, "completed"),
                rejected=_total(route, "rejected"),
                in_flight=_total(route, "inFlight"),
                queued=_total(route, "queued"),
                held=_number(route.get("held"), "held"),
                oldest_wait_seconds=_highest(route, "oldestWaitSeconds"),
                seats=_number(route.get("seats"), "seats"),
                ready_endpoints=_number(route.get("readyEndpoints"), "readyEndpoints"),
                in_flight_by_pod=_by_pod(route),
            )
        except TypeError as error:
            samples[name] = Unavailable("InvalidSignals", f"Signals do not parse: {error}.")
    return samples


def _by_pod(route: Mapping[str, object]) -> Mapping[str, float] | None:
    """Requests in flight by address; a gateway of before this field has none to tell."""
    key = "inFlightByEndpoint"
    if key not in route:
        return None
    found: dict[str, float] = {}
    for endpoint, value in _mapping(route[key], key).items():
        address = endpoint.rpartition(":")[0].strip("[]")
        found[address] = found.get(address, 0.0) + _number(value, key)
    return found


def _total(route: Mapping[str, object], key: str) -> float:
    return sum(_number(value, key) for value in _mapping(route.get(key), key).values())


def _highest(route: Mapping[str, object], key: str) -> float:
    return max((_number(v, key) for v in _mapping(route.get(key), key).values()), default=0.0)


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} is no object")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is no number")
    return float(value)
