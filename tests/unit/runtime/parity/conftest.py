"""Checkpoints and backends of the parity tests, see `parity_cases`."""

from __future__ import annotations

import pytest

from parity_cases import BACKENDS, VARIANTS, BackendOf, Pair, write_pair


@pytest.fixture(scope="module", params=list(VARIANTS), ids=lambda name: name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    pytest.importorskip("transformers")
    return write_pair(request.param, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module", params=list(BACKENDS), ids=lambda name: name)
def backend_of(request: pytest.FixtureRequest) -> BackendOf:
    return BACKENDS[request.param]
