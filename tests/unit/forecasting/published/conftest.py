"""Scripted values, and keys made by openssl."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from r1_cluster.control_plane import certificates
from r1_forecasting.published.publication import InferenceName, Publication
from r1_forecasting.published.published_value import PublishedValue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


class ScriptedPublisher:
    """A publisher with scripted values that records its requests."""

    def __init__(self) -> None:
        self.now: PublishedValue | ForecastUnavailable = ForecastUnavailable(
            UnavailableReason.NO_DATA, "nothing yet"
        )
        self.requests: list[Publication | InferenceName] = []
        self.looks: asyncio.Queue[None] = asyncio.Queue()

    def says(self, value: float) -> None:
        self.now = PublishedValue(value, 1_700_000_000.0, "BeatsBaselines", "said")

    async def value_of(
        self, wanted: Publication | InferenceName
    ) -> PublishedValue | ForecastUnavailable:
        self.requests.append(wanted)
        self.looks.put_nowait(None)
        return self.now

    async def polled(self, times: int) -> None:
        """Return after this many further requests."""
        while not self.looks.empty():
            self.looks.get_nowait()
        for _ in range(times):
            await self.looks.get()


@pytest.fixture
def script() -> ScriptedPublisher:
    return ScriptedPublisher()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a cluster has: its CA, the front proxy's CA, and what each has signed.

    `front-proxy-client` and `somebody` are clients of the front proxy's CA, `user` one of the
    cluster's; `door` serves as r1-forecaster.r1-system.svc and `api` as localhost.
    """
    folder = tmp_path_factory.mktemp("keys")
    cluster = certificates.create_authority(folder, "ca")
    front = certificates.create_authority(folder, "front-proxy-ca")
    for name in ("front-proxy-client", "somebody"):
        certificates.issue(folder, name, front, user=name)
    certificates.issue(folder, "user", cluster, user="user")
    names = {
        "door": "DNS:r1-forecaster.r1-system.svc",
        "renewed": "DNS:r1-forecaster.r1-system.svc",
        "api": "DNS:localhost",
    }
    for name, alternative in names.items():
        certificates.issue(folder, name, cluster, user=name, alternative_names=(alternative,))
    return folder
