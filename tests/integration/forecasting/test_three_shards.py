"""Three shards: any of them serves every series, one is killed, and it returns.

Real processes beside a stand-in for Prometheus that has always seen a ramp (`recurring_ramp`). The
operator's door is asked over HTTP and KEDA's with a real gRPC client, each at a shard that does not
own what it is asked about.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from keda_client import generated_client
from r1_cluster.control_plane.controlplane import free_ports
from r1_forecasting.published.keda.trigger import parse_trigger
from r1_forecasting.published.publication import Publication
from r1_forecasting.sharding.ownership import owner_of
from recurring_ramp import BUSY, QUIET, SHAPE, answer_of, forecaster, is_ready, prometheus, wait_for

NAMES = ("r1-forecaster-0", "r1-forecaster-1", "r1-forecaster-2")
SERIES = tuple(f"team/model-{number}" for number in range(12))
TRIGGER = {key: str(value) for key, value in SHAPE.items()} | {"threshold": "5"}


@dataclass
class Release:
    """Processes by name; ``file`` is the list that they watch."""

    prometheus: str
    folder: Path
    keda: SimpleNamespace
    ports: dict[str, tuple[int, int]]
    names: list[str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ends: dict[str, contextlib.ExitStack] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "shards.json"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name][0]}"

    def know(self, *names: str) -> None:
        """Write the list of shards."""
        self.names = list(names)
        fresh = self.folder / "fresh.json"
        fresh.write_text(json.dumps({name: self.url(name) for name in names}))
        fresh.replace(self.file)

    def start(self, name: str) -> None:
        port, keda_port = self.ports[name]
        arguments = [
            *("--port", str(port), "--keda-port", str(keda_port)),
            *("--prometheus-url", self.prometheus),
            *("--shard", name, "--shards", str(self.file)),
        ]
        log = self.folder / f"{name}.log"
        stack = contextlib.ExitStack()
        process = stack.enter_context(forecaster(arguments, log))
        self.running[name], self.ends[name] = process, stack

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            return is_ready(port)

        wait_for(up, 60, f"{name} is ready")

    def kill(self, name: str) -> None:
        """Kill without notice, as with a lost node."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait(60)
        self.ends.pop(name).close()

    def owner(self, series_name: str) -> str:
        return owner_of(series_name, self.names)

    def ask(self, door: str, series_name: str) -> dict[str, Any]:
        """The operator's request at one of the shards."""
        body = SHAPE | {"series": series_name, "levels": [0.5, 0.9]}
        return answer_of(self.url(door), body)

    def metrics(self, name: str) -> str:
        with urllib.request.urlopen(f"{self.url(name)}/metrics", timeout=30) as reply:
            return str(reply.read().decode())

    def homes(self, series_name: str) -> set[str]:
        """The running shards that hold a forecaster of the series."""
        gauge = f'r1_forecast_gate_open{{series="{series_name}"}}'
        return {name for name in self.ends if gauge in self.metrics(name)}

    @contextlib.contextmanager
    def scaler(self, door: str) -> Iterator[Any]:
        """KEDA's client at one of the shards."""
        with grpc.insecure_channel(f"127.0.0.1:{self.ports[door][1]}") as channel:
            yield self.keda.rpc.ExternalScalerStub(channel)

    def ref(self, scaled_object: str, **metadata: str) -> Any:
        """A ScaledObject of the namespace shop."""
        given = metadata or TRIGGER
        return self.keda.pb.ScaledObjectRef(
            namespace="shop", name=scaled_object, scalerMetadata=given
        )

    def shown(self, door: str, scaled_object: str, **metadata: str) -> float:
        """The value that KEDA reads at one of the shards; raises grpc.RpcError."""
        pb, ref = self.keda.pb, self.ref(scaled_object, **metadata)
        with self.scaler(door) as scaler:
            metric_request = pb.GetMetricsRequest(scaledObjectRef=ref, metricName="r1-forecast")
            (metric_value,) = scaler.GetMetrics(metric_request, timeout=60).metricValues
            return float(metric_value.metricValueFloat)

    def ready(self, door: str, series_name: str) -> dict[str, Any]:
        """The response once it holds a forecast."""

        def there() -> dict[str, Any] | None:
            answer = self.ask(door, series_name)
            return answer if answer["state"] == "Ready" else None

        forecast: dict[str, Any] = wait_for(there, 60, f"a forecast of {series_name} at {door}")
        return forecast

    def another(self, name: str) -> str:
        """Another shard that is running."""
        return next(other for other in self.names if other != name and other in self.ends)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("shards")
    ports = free_ports(6)
    doors = {name: (ports[2 * at], ports[2 * at + 1]) for at, name in enumerate(NAMES)}
    with prometheus() as url:
        made = Release(url, folder, generated_client(folder), doors, [])
        made.know(*NAMES)
        try:
            for name in NAMES:
                made.start(name)
            yield made
        finally:
            for stack in made.ends.values():
                stack.close()


def keda_subject(scaled_object: str) -> str:
    """The series of a ScaledObject's trigger."""
    wanted = parse_trigger("shop", scaled_object, TRIGGER).wanted
    assert isinstance(wanted, Publication)
    return wanted.request.series_name


def test_any_shard_serves_and_each_series_has_one_owner(three: Release) -> None:
    for number, series_name in enumerate(SERIES):
        for door in NAMES[number % 3 :] + NAMES[: number % 3]:
            assert three.ready(door, series_name)["series"] == series_name
    for series_name in SERIES:
        assert three.homes(series_name) == {three.owner(series_name)}


def test_any_keda_port_serves_the_owners_forecast(three: Release) -> None:
    for door in NAMES:
        assert QUIET <= three.shown(door, f"orders-of-{door}") <= 2 * BUSY
        assert three.homes(keda_subject(f"orders-of-{door}")) == {
            three.owner(keda_subject(f"orders-of-{door}"))
        }
        with three.scaler(door) as scaler:
            stream = scaler.StreamIsActive(three.ref(f"orders-of-{door}"), timeout=60)
            assert next(iter(stream)).result in (True, False)
            stream.cancel()
    # The namespace of an R1Inference is the ScaledObject's own.
    inference = "shop/production-r1"
    three.ready(NAMES[1], inference)
    for door in NAMES:
        metadata = {"inference": "production-r1", "threshold": "5"}
        assert QUIET <= three.shown(door, "retrieval", **metadata) <= 2 * BUSY
    assert three.homes(inference) == {three.owner(inference)}


def test_killed_shard_returns_and_serves_its_series(three: Release) -> None:
    gone = three.owner(SERIES[0])
    lost = [series_name for series_name in SERIES if three.owner(series_name) == gone]
    rest = [series_name for series_name in SERIES if series_name not in lost]
    for series_name in SERIES:
        three.ready(three.another(gone), series_name)
    orders = next(
        f"orders-{n}" for n in range(99) if three.owner(keda_subject(f"orders-{n}")) == gone
    )
    three.kill(gone)
    doors = [name for name in NAMES if name != gone]

    for door in doors:
        for series_name in lost:
            answer = three.ask(door, series_name)
            assert (answer["state"], answer["reason"]) == ("Unavailable", "Unreachable")
            assert f"{gone} owns this series" in answer["message"]
        with pytest.raises(grpc.RpcError) as refused:
            three.shown(door, orders)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Unreachable" in str(refused.value.details())
        for series_name in rest:
            assert three.ready(door, series_name)["series"] == series_name
    for series_name in lost:
        assert three.homes(series_name) == set(), "nobody steps in"
    silent = f'r1_forecast_forwarded_total{{outcome="NoResponse",shard="{gone}"}}'
    assert all(silent in three.metrics(door) for door in doors)

    three.start(gone)
    for series_name in lost:
        assert three.ready(doors[0], series_name)["series"] == series_name
        assert three.homes(series_name) == {gone}
    assert QUIET <= three.shown(doors[1], orders) <= 2 * BUSY


def test_removed_shard_moves_only_its_own_series(three: Release) -> None:
    """Runs last, because it changes the list."""
    for series_name in SERIES:
        three.ready(NAMES[0], series_name)
    before = {series_name: three.owner(series_name) for series_name in SERIES}
    three.know(*NAMES[:2])
    three.kill(NAMES[2])

    def settled() -> bool:
        return all("r1_forecast_shards 2.0" in three.metrics(name) for name in NAMES[:2])

    wait_for(settled, 60, "the others have read the new list")
    moved = [series_name for series_name in SERIES if before[series_name] == NAMES[2]]
    assert moved
    for series_name in SERIES:
        owner = three.owner(series_name)
        assert owner == before[series_name] or series_name in moved
        three.ready(three.another(owner), series_name)
        assert three.homes(series_name) == {owner}
