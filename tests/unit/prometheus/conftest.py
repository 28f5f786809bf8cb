"""Both Prometheus clients against one scripted server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from prometheus_clients import Ask, ask_external, ask_history
from r1_cluster.control_plane import certificates
from r1_cluster.control_plane.certificates import KeyPair
from scripted_prometheus import Script, matrix, scripted, vector


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted() as script:
        yield script


@pytest.fixture(params=["forecaster", "operator"])
def client(request: pytest.FixtureRequest) -> tuple[Ask, Callable[..., bytes]]:
    """A query function, and the body of a valid response to it."""
    if request.param == "forecaster":
        return ask_history, matrix
    return ask_external, vector


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return certificates.create_authority(tmp_path_factory.mktemp("authority"), "private")


@pytest.fixture(scope="session")
def server_keys(authority: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    folder = tmp_path_factory.mktemp("server")
    return certificates.issue(
        folder, "server", authority, "prometheus", alternative_names=("IP:127.0.0.1",)
    )


@pytest.fixture(scope="session")
def client_keys(authority: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return certificates.issue(tmp_path_factory.mktemp("client"), "client", authority, "operator")
