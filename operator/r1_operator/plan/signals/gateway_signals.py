"""Parser of the gateway's `/signals` response.

The response comes from another process and release. An invalid part makes its resource `Unavailable`;
the other resources keep their figures.
"""

import math
from collections.abc import Mapping, Sequence

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.latency_histograms import GatewayLatencies, LatencyHistogram


def read_signals(
    response: object, received_at: float
) -> dict[str, CounterSample | Unavailable] | Unavailable:
    """Return one sample per `namespace/name`, with the figures of all classes added up.

    `received_at`: the operator's monotonic time at the response (seconds).
    """
    try:
        document = _mapping(response, "the response")
        routes = _mapping(document.get("routes"), "routes")
        gateway = str(document["gateway"])
        started_at = _number(document.get("startedAt"), "startedAt")
        at = _number(document.get("at"), "at")
        uptime = _optional(document, "uptimeSeconds")
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
                buffered=_number(route.get("queuedWithoutEndpoints"), "queuedWithoutEndpoints"),
                oldest_wait_seconds=_highest(route, "oldestWaitSeconds"),
                seats=_number(route.get("seats"), "seats"),
                ready_endpoints=_number(route.get("readyEndpoints"), "readyEndpoints"),
                in_flight_by_pod=_by_pod(route),
                offered_by_class=_by_class(route, "offeredRequests"),
                seat_seconds=_optional(route, "seatOccupancySeconds"),
                uptime=uptime,
            )
        except TypeError as error:
            samples[name] = Unavailable("InvalidSignals", f"Signals do not parse: {error}.")
    return samples


def _by_class(route: Mapping[str, object], key: str) -> Mapping[ClassName, float]:
    figures = _mapping(route.get(key), key)
    return {name: _number(figures.get(name.value, 0), key) for name in ClassName}


def _optional(route: Mapping[str, object], key: str) -> float | None:
    value = route.get(key)
    return None if value is None else _number(value, key)


def _by_pod(route: Mapping[str, object]) -> Mapping[str, float] | None:
    """Return requests in flight by address; None from a release without this field."""
    key = "inFlightByEndpoint"
    if key not in route:
        return None
    found: dict[str, float] = {}
    for endpoint, value in _mapping(route[key], key).items():
        address = endpoint.rpartition(":")[0].strip("[]")
        found[address] = found.get(address, 0.0) + _number(value, key)
    return found


def read_latencies(response: Mapping[str, object], name: str) -> GatewayLatencies | None:
    """Return the histograms of the resource `name` in a response that `read_signals` accepted.

    None where the gateway sends none (an older release) or they do not parse: the latencies are then
    unknown, and nothing else is lost.
    """
    try:
        route = _mapping(_mapping(response.get("routes"), "routes").get(name), name)
        bounds = tuple(
            _number(bound, "secondsBuckets") for bound in _sequence(response, "secondsBuckets")
        )
        waits = _mapping(route.get("oldestWaitSeconds"), "oldestWaitSeconds")
        return GatewayLatencies(
            first_token=_histograms(route, "timeToFirstToken", bounds),
            whole=_histograms(route, "latency", bounds),
            oldest_wait={
                name: _duration(waits[name.value], "oldestWaitSeconds")
                for name in ClassName
                if name.value in waits
            },
        )
    except TypeError:
        return None


def _histograms(
    route: Mapping[str, object], key: str, bounds: tuple[float, ...]
) -> dict[ClassName, LatencyHistogram]:
    found: dict[ClassName, LatencyHistogram] = {}
    by_class = _mapping(route.get(key), key)
    for name in ClassName:
        if name.value not in by_class:
            continue
        histogram = _mapping(by_class[name.value], key)
        counts = tuple(_duration(count, key) for count in _sequence(histogram, "counts"))
        if len(counts) != len(bounds) + 1:
            raise TypeError(f"{key} has {len(counts)} counts for {len(bounds)} bounds")
        total = _duration(histogram.get("sumSeconds"), key)
        found[name] = LatencyHistogram(bounds, counts, total)
    return found


def _sequence(document: Mapping[str, object], key: str) -> Sequence[object]:
    value = document.get(key)
    if not isinstance(value, list):
        raise TypeError(f"{key} is no list")
    return value


def _duration(value: object, what: str) -> float:
    number = _number(value, what)
    if not 0 <= number < math.inf:
        raise TypeError(f"{what} is {number}")
    return number


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
