"""A real operator in this process against a real API server, for benchmark and tests.

The cluster needs no controllers and no nodes. `play_deployment_controller` does the Deployment
controller's part where a scenario needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from r1_operator.api.backtest.schema import backtest_crd
from r1_operator.api.schema import crd
from r1_operator.controller.manager import Manager
from r1_operator.kube.client import Api, NotFound
from r1_operator.kube.kinds import DEPLOYMENT, R1BACKTEST, R1INFERENCE, Json, Key, Kind
from r1_operator.settings import OperatorSettings

NAMESPACE = Kind("", "v1", "namespaces", "Namespace")
CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")

QUICK = OperatorSettings(
    dev=True,
    identity="lab",
    http_host="127.0.0.1",
    http_port=0,
    decision_seconds=0.5,
    relist_seconds=5.0,
)
"""Settings of an operator without a Lease that decides and relists often."""


async def connect(kubeconfig: Path, **options: Any) -> Api:
    """A client for the cluster of this kubeconfig."""
    configuration = type.__call__(Configuration)
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return Api(configuration, **options)


async def install_crd(api: Api) -> None:
    """Apply the CRDs and wait until they are served."""
    await _install(api, crd(), R1INFERENCE)
    await _install(api, backtest_crd(), R1BACKTEST)


async def _install(api: Api, manifest: Json, kind: Kind) -> None:
    name = manifest["metadata"]["name"]
    await api.request(
        "PATCH",
        CRD.path(None, name),
        query={"fieldManager": "lab", "force": "true"},
        body=manifest,
        content_type="application/apply-patch+yaml",
    )

    async def served() -> bool:
        stored = await api.get(CRD, None, name)
        conditions = (stored or {}).get("status", {}).get("conditions") or ()
        if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return False
        with contextlib.suppress(NotFound):  # Established precedes the first served request
            async for _ in api.list_pages(kind, page_size=1):
                return True
        return False

    await until(served, f"{kind.plural} are served")


async def make_namespace(api: Api, name: str) -> None:
    """Create a namespace."""
    await api.request(
        "POST",
        NAMESPACE.path(),
        body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
    )


@contextlib.asynccontextmanager
async def operating(settings: OperatorSettings, api: Api) -> AsyncIterator[Manager]:
    """Run an operator; stop it at the end of the block and raise its errors."""
    operation = Manager(replace(settings, identity=settings.identity or "lab"), api)
    task = asyncio.create_task(operation.run())
    try:
        yield operation
    finally:
        operation.stop.set()
        await task


async def until(
    holds: Callable[[], Awaitable[Any]], what: str, seconds: float = 60.0, pause: float = 0.1
) -> Any:
    """Wait until `holds` returns a true value, and return the value.

    Raises:
        TimeoutError: after `seconds`; the message contains `what`.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        value = await holds()
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(pause)


async def play_deployment_controller(api: Api, key: Key) -> Json:
    """Report all pods of a Deployment as ready, as its controller would."""
    deployment = await api.get(DEPLOYMENT, *key)
    if deployment is None:
        raise LookupError(f"no Deployment {key}")
    count = deployment["spec"]["replicas"]
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": count,
        "readyReplicas": count,
        "updatedReplicas": count,
        "availableReplicas": count,
    }
    return await api.request("PUT", DEPLOYMENT.path(*key, "status"), body=deployment)


def resource(name: str, namespace: str, **spec: Any) -> Json:
    """A manifest of an R1Inference."""
    return {
        "apiVersion": R1INFERENCE.api_version,
        "kind": R1INFERENCE.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
