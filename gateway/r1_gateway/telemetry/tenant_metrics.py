"""Metrics by tenant: at most ``NAMED`` tenants and ``other`` (:mod:`~r1_gateway.tenants.usage`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from r1_common.contracts.priority_classes import CLASS_NAMES
from r1_gateway.telemetry.metric_family import Family, Rows, no_rows, sample_lines
from r1_gateway.tenants.usage import TenantUsage, UsageByTenant

_CLASS = ("tenant", "class")
Samples = Iterable[tuple[tuple[object, ...], float]]


def _by_class(
    read: Callable[[TenantUsage], list[float]],
) -> Callable[[UsageByTenant], Samples]:
    def samples(usage: UsageByTenant) -> Samples:
        for tenant, each in usage.tenants.items():
            for name, value in zip(CLASS_NAMES, read(each), strict=True):
                yield (tenant, name), value

    return samples


def _requests(usage: UsageByTenant) -> Samples:
    for tenant, each in usage.tenants.items():
        for (klass, code), count in each.requests.items():
            yield (tenant, CLASS_NAMES[klass], code), count


def _limited(usage: UsageByTenant) -> Samples:
    for tenant, each in usage.tenants.items():
        for limit, count in each.limited.items():
            yield (tenant, limit), count


def _cost(usage: UsageByTenant) -> Samples:
    return (((tenant,), each.cost) for tenant, each in usage.tenants.items())


_SAMPLES: tuple[tuple[Family, Callable[[UsageByTenant], Samples]], ...] = (
    (Family("r1_gateway_tenant_requests", "counter", "Responses by tenant and status code.",
            (*_CLASS, "code"), no_rows), _requests),
    (Family("r1_gateway_tenant_limited", "counter",
            "Requests that a limit of the tenant refused, by the limit.",
            ("tenant", "limit"), no_rows), _limited),
    (Family("r1_gateway_tenant_input_tokens", "counter", "Prompt tokens of responses.", _CLASS, no_rows),
     _by_class(lambda usage: usage.input_tokens)),
    (Family("r1_gateway_tenant_output_tokens", "counter", "Generated tokens.", _CLASS, no_rows),
     _by_class(lambda usage: usage.output_tokens)),
    (Family("r1_gateway_tenant_queue_seconds", "counter", "Seconds in the queue, of all requests together.",
            _CLASS, no_rows), _by_class(lambda usage: usage.queue_seconds)),
    (Family("r1_gateway_tenant_first_token_seconds", "counter",
            "Seconds to the first token, of all streams together.",
            _CLASS, no_rows), _by_class(lambda usage: usage.first_token_seconds)),
    (Family("r1_gateway_tenant_first_tokens", "counter", "Streams with a first token.",
            _CLASS, no_rows), _by_class(lambda usage: usage.first_tokens)),
    (Family("r1_gateway_tenant_cost", "counter",
            "Price of the tokens, by the prices of the keys file.", ("tenant",), no_rows), _cost),
)  # fmt: skip
TENANT_FAMILIES = tuple(family for family, _ in _SAMPLES)


def tenant_rows(usage: UsageByTenant) -> Rows:
    """Families of the tenants; empty until a request ended."""
    for family, read in _SAMPLES:
        yield from sample_lines(family, read(usage))
