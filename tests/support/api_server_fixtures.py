"""Fixtures on a real API server: a client, the CRD, and a namespace per test."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from r1_bench.operator_scale.testbed import connect, install_crd, make_namespace
from r1_operator.kube.client import Api


@pytest.fixture
async def api(apiserver: Path) -> AsyncIterator[Api]:
    """The test's client; its request log has no requests of an operator."""
    async with await connect(apiserver) as client:
        await install_crd(client)
        yield client


@pytest.fixture
async def namespace(api: Api) -> str:
    """A new namespace."""
    name = f"it-{uuid.uuid4().hex[:8]}"
    await make_namespace(api, name)
    return name
