"""Samples of counters and latencies from the gateway's `/signals` response.

The response comes from another process and release. An invalid part makes its resource `Unavailable`;
the other resources keep their figures.
"""

from collections.abc import Mapping

from r1_common.contracts.signals import (
    ByClass,
    HistogramCounts,
    InvalidSignals,
    RouteSignals,
    SignalsHeader,
    parse_header,
    parse_latencies,
    parse_oldest_waits,
    parse_signals,
)
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
        signals = parse_signals(response)
    except InvalidSignals as error:
        return Unavailable("InvalidSignals", f"The gateway's signals do not parse: {error}.")
    return {
        name: route
        if isinstance(route, Unavailable)
        else _counter_sample(signals.header, route, received_at)
        for name, route in signals.routes.items()
    }


def _counter_sample(
    header: SignalsHeader, route: RouteSignals, received_at: float
) -> CounterSample:
    return CounterSample(
        gateway=header.gateway,
        started_at=header.started_at,
        at=header.at,
        received_at=received_at,
        offered_requests=_total(route.offered_requests),
        offered_tokens=_total(route.offered_tokens),
        completed=_total(route.completed),
        rejected=_total(route.rejected),
        in_flight=_total(route.in_flight),
        queued=_total(route.queued),
        buffered=route.queued_without_endpoints,
        oldest_wait_seconds=max(route.oldest_wait_seconds.values(), default=0.0),
        seats=route.seats,
        ready_endpoints=route.ready_endpoints,
        in_flight_by_pod=_by_pod(route.in_flight_by_endpoint),
        offered_by_class={name: route.offered_requests.get(name.value, 0.0) for name in ClassName},
        seat_seconds=route.seat_occupancy_seconds,
        uptime=header.uptime_seconds,
    )


def _total(by_class: ByClass) -> float:
    return sum(by_class.values())


def _by_pod(by_endpoint: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """Return requests in flight by address; None from a release without this field."""
    if by_endpoint is None:
        return None
    by_address: dict[str, float] = {}
    for endpoint, count in by_endpoint.items():
        address = endpoint.rpartition(":")[0].strip("[]")
        by_address[address] = by_address.get(address, 0.0) + count
    return by_address


def read_latencies(response: Mapping[str, object], name: str) -> GatewayLatencies | None:
    """Return the histograms of the resource `name` in a response that `read_signals` accepted.

    None where the gateway sends none (an older release) or they do not parse: the latencies are then
    unknown, and nothing else is lost.
    """
    routes = response.get("routes")
    entry = routes.get(name) if isinstance(routes, Mapping) else None
    try:
        header = parse_header(response)
        latencies = parse_latencies(entry, header.seconds_buckets)
        waits = parse_oldest_waits(entry)
    except InvalidSignals:
        return None
    return GatewayLatencies(
        first_token=_histograms(latencies.time_to_first_token, header.seconds_buckets),
        whole=_histograms(latencies.latency, header.seconds_buckets),
        oldest_wait={name: waits[name.value] for name in ClassName if name.value in waits},
    )


def _histograms(
    by_class: Mapping[str, HistogramCounts], bounds: tuple[float, ...]
) -> dict[ClassName, LatencyHistogram]:
    return {
        name: LatencyHistogram(
            bounds, by_class[name.value].counts, by_class[name.value].sum_seconds
        )
        for name in ClassName
        if name.value in by_class
    }
