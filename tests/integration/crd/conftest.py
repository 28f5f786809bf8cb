"""A real API server with the CRDs, and a client for it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from r1_operator.api.backtest.schema import backtest_crd
from r1_operator.api.schema import crd


@pytest.fixture(scope="session")
def api_client(apiserver: Path) -> Iterator[Any]:
    """A client of the API server."""
    with config.new_client_from_config(str(apiserver)) as api:
        yield api


@pytest.fixture(scope="session")
def resources(api_client: Any) -> Any:
    """The custom objects API, after the CRDs are served."""
    definitions = client.ApiextensionsV1Api(api_client)
    for definition in (crd(), backtest_crd()):
        definitions.patch_custom_resource_definition(
            definition["metadata"]["name"],
            definition,
            field_manager="test",
            force=True,
            field_validation="Strict",
            _content_type="application/apply-patch+yaml",
        )
        wait_until_served(api_client, definition["spec"]["names"]["plural"])
    return client.CustomObjectsApi(api_client)


def wait_until_served(api_client: Any, plural: str) -> None:
    """Poll until the API server serves the kind, shortly after the CRD."""
    objects = client.CustomObjectsApi(api_client)
    for _ in range(300):
        try:
            objects.list_namespaced_custom_object("deepseek.ai", "v1", "default", plural)
            return
        except ApiException as error:
            if error.status != 404:
                raise
        time.sleep(0.1)
    raise AssertionError("the CRD is not served after 30 s")


@pytest.fixture(scope="session")
def create(resources: Any) -> Callable[..., dict[str, Any]]:
    """Create a manifest, as a dry run by default; unknown fields are errors."""

    def run(manifest: dict[str, Any], dry_run: bool = True) -> dict[str, Any]:
        more = {"dry_run": "All"} if dry_run else {}
        created: dict[str, Any] = resources.create_namespaced_custom_object(
            "deepseek.ai",
            "v1",
            "default",
            "r1inferences",
            copy.deepcopy(manifest),
            field_validation="Strict",
            **more,
        )
        return created

    return run
