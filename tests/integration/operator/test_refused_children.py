"""What a real API server refuses: shown in its words, and the status follows the pods meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1_bench.operator_scale.testbed import QUICK, connect, operating, resource, until
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, EVENT, POD, R1INFERENCE, SERVICE, Json, Key, Kind
from r1_operator.settings import OperatorSettings

pytestmark = pytest.mark.apiserver

QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
POLICY = Kind(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"
)
BINDING = replace(POLICY, plural="validatingadmissionpolicybindings")
WEBHOOK = replace(POLICY, plural="validatingwebhookconfigurations")


@pytest.fixture
def settings(namespace: str) -> OperatorSettings:
    """An operator of this test's namespace alone."""
    return replace(QUICK, namespaces=(namespace,))


async def patch(api: Api, key: Key, body: Json, kind: Kind = R1INFERENCE, sub: Any = None) -> None:
    """A merge patch, as kubectl would send it."""
    path, content = kind.path(*key, sub), "application/merge-patch+json"
    await api.request("PATCH", path, body=body, content_type=content)


async def conditions(api: Api, key: Key) -> dict[str, Json]:
    """The conditions by type."""
    inference = await api.get(R1INFERENCE, *key) or {}
    return {one["type"]: one for one in inference.get("status", {}).get("conditions", ())}


def is_condition(api: Api, key: Key, kind: str, status: str, words: str = "") -> Any:
    """A condition to wait for; gives it."""

    async def check() -> Json | None:
        condition = (await conditions(api, key)).get(kind)
        if condition and condition["status"] == status and words in condition["message"]:
            return condition
        return None

    return check


def is_gone(api: Api, key: Key, kind: str) -> Any:
    """The absence of a condition to wait for."""

    async def check() -> bool:
        return kind not in await conditions(api, key)

    return check


def exists(api: Api, kind: Kind, key: Key) -> Any:
    """An object to wait for."""

    async def check() -> Json | None:
        return await api.get(kind, *key)

    return check


async def serve_one(api: Api, key: Key) -> None:
    """Make the pod that a ReplicaSet and a kubelet would have made."""
    deployment = await until(exists(api, DEPLOYMENT, key), "the Deployment")
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{key.name}-1", "labels": template["metadata"]["labels"]},
        "spec": {"containers": [{"name": "engine", "image": "x"}], "nodeName": "n"},
    }
    await api.create(POD, key.namespace, pod)
    stamp = "2027-01-15T07:59:00Z"
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": stamp}
    status = {"phase": "Running", "conditions": [ready]}
    await patch(api, Key(key.namespace, f"{key.name}-1"), {"status": status}, POD, "status")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"containers": [{"name": "engine", "imagePullPolcy": "Always"}]}, "imagePullPolcy"),
        ({"terminationGracePeriodSeconds": "30"}, "terminationGracePeriodSeconds"),
        ({"containers": [{"name": "engine", "env": {"a": "b"}}]}, "env"),
        ({"containers": [{"name": "engine", "resources": {"limits": {"cpu": "x"}}}]}, "quantities"),
        ({"nodeSelector": {"disk": 5}}, "nodeSelector"),
        ({"containers": [{"name": "engine", "args": ["--a", 5]}]}, "args"),
        ({"hostNetwork": "yes"}, "hostNetwork"),
        ({"containers": [{"name": "side"}]}, "image"),
        ({"restartPolicy": "Never"}, "restartPolicy"),
        ({"affinity": {"nodeAffinity": {"required": {}}}}, "required"),
    ],
)
async def test_a_template_that_the_server_refuses(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings, spec: Json, words: str
) -> None:
    key = Key(namespace, "typo")
    await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=1))
    async with await connect(apiserver) as own, operating(settings, own):
        await serve_one(api, key)
        await until(is_condition(api, key, "Available", "True"), "it serves")
        await patch(api, key, {"spec": {"template": {"spec": spec}}})
        degraded = await until(is_condition(api, key, "Degraded", "True", words), "the refusal")
        assert degraded["observedGeneration"] == 2
        assert (await conditions(api, key))["Available"]["status"] == "True"
        before = own.log.totals["PATCH", 500] + own.log.totals["PATCH", 422]
        await api.delete(POD, namespace, "typo-1")
        await until(is_condition(api, key, "Available", "False"), "the lost pod is seen", 15)
        assert (await conditions(api, key))["Ready"]["status"] == "False"

        async def event() -> bool:
            pages = [page async for page in api.list_pages(EVENT, namespace)]
            return any(words in one["note"] for page in pages for one in page["items"])

        await until(event, "an Event in the server's words", 15)
        await asyncio.sleep(3)
        sent = own.log.totals["PATCH", 500] + own.log.totals["PATCH", 422]
        assert sent - before <= 4, "what is refused is not sent without end"
        await patch(api, key, {"spec": {"template": None}})
        await until(is_gone(api, key, "Degraded"), "it is mended", 15)


@pytest.mark.parametrize("handler", ["exec", "httpGet", "tcpSocket", "grpc", "sleep"])
async def test_a_template_that_replaces_a_handler_is_taken(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings, handler: str
) -> None:
    key = Key(namespace, "handler")
    handlers: Json = {
        "exec": {"command": ["true"]},
        "httpGet": {"port": 9000},
        "tcpSocket": {"port": 9000},
        "grpc": {"port": 9000},
        "sleep": {"seconds": 5},
    }
    engine: Json = {"name": "engine"}
    if handler != "sleep":
        names = ("readinessProbe", "livenessProbe", "startupProbe")
        engine |= {name: {handler: handlers[handler]} for name in names}
    if handler != "grpc":
        engine["lifecycle"] = {"preStop": {handler: handlers[handler]}}
    template = {
        "containers": [engine],
        "volumes": [{"name": "tmp", "hostPath": {"path": "/scratch"}}],
    }
    made = resource(key.name, namespace, replicas=1, template={"spec": template})
    await api.create(R1INFERENCE, namespace, made)
    async with await connect(apiserver) as own, operating(settings, own):
        deployment = await until(exists(api, DEPLOYMENT, key), "the Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if handler != "sleep":
            held = [name for name in handlers if name in container["readinessProbe"]]
            assert held == [handler]
        await until(is_condition(api, key, "Ready", "False"), "a status")
        assert "Degraded" not in await conditions(api, key)


async def test_a_quota_on_services_holds_up_the_service_alone(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "full")
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"services": "0"}}}
    await api.create(QUOTA, namespace, quota)
    status = {"status": {"hard": {"services": "0"}, "used": {"services": "0"}}}
    await patch(api, Key(namespace, "none"), status, QUOTA, "status")
    await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=1))
    async with await connect(apiserver) as own, operating(settings, own):
        condition = await until(is_condition(api, key, "Degraded", "True"), "the quota")
        assert "exceeded quota: none" in condition["message"]
        assert "Raise the ResourceQuota" in condition["message"]
        await until(exists(api, DEPLOYMENT, key), "the Deployment")
        await api.delete(QUOTA, namespace, "none")
        await until(exists(api, SERVICE, key), "the Service", 60)
        await until(is_gone(api, key, "Degraded"), "it is mended")


async def test_a_policy_that_denies_is_quoted(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "denied")
    name = f"deny-{namespace}"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["deployments"],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": "no deployment here"}],
        },
    }
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    await api.request("POST", POLICY.path(), body=policy)
    await api.request("POST", BINDING.path(), body=binding)
    await asyncio.sleep(3)  # until the API server has compiled it
    try:
        await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=1))
        async with await connect(apiserver) as own, operating(settings, own):
            words = "no deployment here"
            condition = await until(is_condition(api, key, "Degraded", "True", words), "the denial")
            assert condition["reason"] == "ChildRejected"
            assert "policy" in condition["message"]
    finally:
        await api.delete(BINDING, None, name)  # type: ignore[arg-type]
        await api.delete(POLICY, None, name)  # type: ignore[arg-type]


async def test_a_webhook_that_does_not_answer_is_named(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "hooked")
    name = f"hook-{namespace}"
    hook = {
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "silent.example.com",
                "clientConfig": {"url": "https://127.0.0.1:9/x"},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["*"],
                        "resources": ["services"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }
    await api.request("POST", WEBHOOK.path(), body=hook)
    await asyncio.sleep(3)
    try:
        await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=1))
        async with await connect(apiserver) as own, operating(settings, own):
            condition = await until(is_condition(api, key, "Degraded", "True"), "the webhook")
            assert condition["reason"] == "ChildNotApplied"
            assert "silent.example.com" in condition["message"]
            await until(exists(api, DEPLOYMENT, key), "the Deployment")
            await api.delete(WEBHOOK, None, name)  # type: ignore[arg-type]
            await until(exists(api, SERVICE, key), "the Service")
            await until(is_gone(api, key, "Degraded"), "it is mended")
    finally:
        await api.delete(WEBHOOK, None, name)  # type: ignore[arg-type]
