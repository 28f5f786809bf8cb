"""KEDA's external scaler with a client generated from KEDA's own .proto text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from keda_client import generated_client
from r1_forecasting.published.keda.scaler import KedaScaler, start_keda_listener
from r1_forecasting.published.publication import InferenceName, Publication
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TRIGGER = {"query": "sum(rate(orders_total[2m]))", "leadSeconds": "90", "threshold": "2.5"}


@pytest.fixture(scope="module")
def kedas(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The generated messages (``pb``) and client (``rpc``)."""
    return generated_client(tmp_path_factory.mktemp("proto"))


@pytest.fixture
async def client(kedas: SimpleNamespace, script: Any) -> AsyncIterator[Any]:
    server, port = await start_keda_listener(KedaScaler(script, poll_seconds=0.02), "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield kedas.rpc.ExternalScalerStub(channel)
    await server.stop(None)


@pytest.fixture
def ref(kedas: SimpleNamespace) -> Any:
    return kedas.pb.ScaledObjectRef(namespace="shop", name="orders", scalerMetadata=TRIGGER)


async def test_the_target_is_what_one_replica_carries(client: Any, ref: Any) -> None:
    answer = await client.GetMetricSpec(ref)
    (spec,) = answer.metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("r1-forecast", 3, 2.5)


async def test_keda_metric_equals_the_published_value(
    client: Any, ref: Any, kedas: SimpleNamespace, script: Any
) -> None:
    script.says(15.25)
    metric_request = kedas.pb.GetMetricsRequest(scaledObjectRef=ref, metricName="r1-forecast")
    (value,) = (await client.GetMetrics(metric_request)).metricValues
    assert (value.metricName, value.metricValue, value.metricValueFloat) == (
        "r1-forecast",
        16,
        15.25,
    )
    (wanted,) = script.requests
    assert isinstance(wanted, Publication)
    assert wanted.request.query == TRIGGER["query"]
    assert (wanted.namespace, wanted.name) == ("shop", "orders")


async def test_zero_value_does_not_activate_the_workload(
    client: Any, ref: Any, kedas: SimpleNamespace, script: Any
) -> None:
    script.says(0.0)
    (value,) = (
        await client.GetMetrics(kedas.pb.GetMetricsRequest(scaledObjectRef=ref))
    ).metricValues
    assert (value.metricValue, value.metricValueFloat) == (0, 0.0)
    assert not (await client.IsActive(ref)).result
    script.says(0.2)
    assert (await client.IsActive(ref)).result


async def test_an_inference_is_requested_by_its_name(
    client: Any, kedas: SimpleNamespace, script: Any
) -> None:
    script.says(1.0)
    metadata = {"inference": "production-r1", "threshold": "1000"}
    named = kedas.pb.ScaledObjectRef(namespace="team-a", name="x", scalerMetadata=metadata)
    assert (await client.IsActive(named)).result
    assert script.requests == [InferenceName("team-a", "production-r1")]


async def test_no_data_is_an_error_that_says_why(
    client: Any, ref: Any, kedas: SimpleNamespace
) -> None:
    for call in (
        client.IsActive(ref),
        client.GetMetrics(kedas.pb.GetMetricsRequest(scaledObjectRef=ref)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "NoData: nothing yet"


async def test_bad_metadata_is_refused_by_every_call_with_the_field_and_the_fix(
    client: Any, kedas: SimpleNamespace
) -> None:
    bad = kedas.pb.ScaledObjectRef(
        namespace="shop", name="orders", scalerMetadata=TRIGGER | {"threshold": "many"}
    )

    async def first(stream: Any) -> Any:
        return await anext(aiter(stream))

    for call in (
        client.IsActive(bad),
        client.GetMetricSpec(bad),
        client.GetMetrics(kedas.pb.GetMetricsRequest(scaledObjectRef=bad)),
        first(client.StreamIsActive(bad)),
        first(client.StreamMetricSpec(bad)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "threshold: 'many' needs to be a number such as '60'"


async def test_activity_stream_sends_changes_only_and_nothing_without_a_value(
    client: Any, ref: Any, script: Any
) -> None:
    stream = aiter(client.StreamIsActive(ref))
    pending: asyncio.Future[Any] = asyncio.ensure_future(anext(stream))
    await script.polled(3)
    assert not pending.done(), "there is no number yet"
    script.says(0.0)
    assert (await pending).result is False
    script.says(4.0)
    assert (await anext(stream)).result is True
    script.now = ForecastUnavailable(UnavailableReason.PROMETHEUS_UNREACHABLE, "gone")
    await script.polled(3)
    script.says(0.0)
    assert (await anext(stream)).result is False, "an outage in between was no change"


async def test_metric_spec_stream_sends_the_spec_once_and_stays_open(client: Any, ref: Any) -> None:
    stream = aiter(client.StreamMetricSpec(ref))
    body = await anext(stream)
    assert body == await client.GetMetricSpec(ref)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.2)


async def test_a_port_that_is_taken_is_an_error(script: Any) -> None:
    server, port = await start_keda_listener(KedaScaler(script), "127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="cannot listen on port"):
            await start_keda_listener(KedaScaler(script), "127.0.0.1", port)
    finally:
        await server.stop(None)
