"""KEDA's client with a real forecaster: a workload at zero is activated before its load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from keda_client import generated_client
from r1_cluster.control_plane.controlplane import free_ports
from recurring_ramp import (
    BUSY,
    LEAD,
    QUIET,
    SEASON,
    SHAPE,
    demand,
    forecaster,
    is_ready,
    prometheus,
    wait_for,
)

TRIGGER = {key: str(value) for key, value in SHAPE.items()} | {
    "scalerAddress": "r1-forecaster.r1-system.svc:8083",
    "threshold": "5",
    "activationThreshold": "10",
}


@pytest.fixture(scope="module")
def keda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The generated messages (`pb`) and a client (`scaler`) of the forecaster's process."""
    folder = tmp_path_factory.mktemp("keda")
    view = generated_client(folder)
    port, keda_port = free_ports(2)
    with prometheus() as url:
        ports = ["--port", str(port), "--keda-port", str(keda_port)]
        log = folder / "forecaster.log"
        with forecaster([*ports, "--prometheus-url", url], log) as process:

            def up() -> bool:
                assert process.poll() is None, log.read_text()
                return is_ready(port)

            wait_for(up, 60, "the forecaster is ready")
            with grpc.insecure_channel(f"127.0.0.1:{keda_port}") as channel:
                yield SimpleNamespace(pb=view.pb, scaler=view.rpc.ExternalScalerStub(channel))


def ref(keda: SimpleNamespace, **changes: str) -> Any:
    return keda.pb.ScaledObjectRef(
        namespace="shop", name="orders", scalerMetadata=TRIGGER | changes
    )


def test_activity_stream_activates_the_workload_before_its_load(keda: SimpleNamespace) -> None:
    stream = keda.scaler.StreamIsActive(ref(keda), timeout=5 * SEASON)
    asleep = False
    for reply in stream:
        now = time.time()
        if reply.result and asleep:
            break
        asleep = not reply.result
    stream.cancel()
    assert demand(now) == QUIET, "woken while it is still quiet"
    ahead = max(demand(now + second) for second in range(int(LEAD) + 10))
    assert ahead == BUSY, "and the load comes about a lead later"


def test_the_metric_rises_before_the_load(keda: SimpleNamespace) -> None:
    metric_request = keda.pb.GetMetricsRequest(scaledObjectRef=ref(keda), metricName="r1-forecast")

    def value() -> float:
        (metric_value,) = keda.scaler.GetMetrics(metric_request, timeout=60).metricValues
        return float(metric_value.metricValueFloat)

    def ahead() -> bool:
        return value() > 0.9 * BUSY and demand(time.time()) == QUIET

    wait_for(ahead, 3 * SEASON, "a high value while it is quiet")


def test_query_without_a_result_is_an_error_and_not_zero(keda: SimpleNamespace) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        keda.scaler.IsActive(ref(keda, query="no_such_metric"), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
