"""What stories on a real API server start from: a client, the CRD, and a namespace for each test."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from r1_bench.operator_testbed import connect, install_crd, make_namespace
from r1_operator.kube.client import Api


@pytest.fixture
async def api(apiserver: Path) -> AsyncIterator[Api]:
    """The test's own client; what an operator does is not in its log."""
    async with await connect(apiserver) as client:
        await install_crd(client)
        yield client


@pytest.fixture
async def namespace(api: Api) -> str:
    """A fresh namespace."""
    name = f"it-{uuid.uuid4().hex[:8]}"
    await make_namespace(api, name)
    return name
