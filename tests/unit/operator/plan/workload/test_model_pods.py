"""Model pod of a resource: security settings, probes and the start of its engine."""

from __future__ import annotations

from typing import Any

import pytest

from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children

VOLUME = {"source": {"persistentVolumeClaim": {"claimName": "weights", "subPath": "r1"}}}
GPUS = {"limits": {"nvidia.com/gpu": 2}}


def template_of(resource: R1Inference, defaults: Defaults) -> dict[str, Any]:
    template: dict[str, Any] = plan_children(resource, defaults, 1)[-1]["spec"]["template"]
    return template


def engine_of(resource: R1Inference, defaults: Defaults) -> dict[str, Any]:
    engine: dict[str, Any] = template_of(resource, defaults)["spec"]["containers"][0]
    return engine


def words(resource: R1Inference, defaults: Defaults) -> str:
    return " ".join(engine_of(resource, defaults)["command"])


def test_the_bundled_runtime_serves_the_default_model(resource: Any, defaults: Defaults) -> None:
    engine = engine_of(resource({"model": {"aliases": ["chat", "r1"]}}), defaults)
    assert engine["image"] == "registry.example/runtime:1"
    assert " ".join(engine["command"]) == (
        "python3 -m r1_runtime.serve --model-path bundled:demo --served-model-name r1 "
        "--served-model-name chat --port 8000 --dtype auto --max-num-seqs 8 --drain-seconds 120"
    )


def test_runtime_options_reach_the_bundled_runtime(resource: Any, defaults: Defaults) -> None:
    spec = {
        "model": {"source": {"path": "/weights/r1"}},
        "engine": {"args": ["--seed", "7"]},
        "runtime": {
            "dtype": "BFloat16",
            "maxModelLength": 4096,
            "maxConcurrentSequences": 32,
            "kvCacheBlocks": 100,
        },
        "rollout": {"drainSeconds": 7},
    }
    text = words(resource(spec), defaults)
    for fragment in (
        "--model-path /weights/r1",
        "--dtype bfloat16",
        "--max-model-len 4096",
        "--max-num-seqs 32",
        "--num-blocks 100",
        "--drain-seconds 7",
    ):
        assert fragment in text
    assert text.endswith("--seed 7")


def test_techniques_reach_the_bundled_runtime_as_options(resource: Any, defaults: Defaults) -> None:
    runtime = {
        "quantization": {"weights": "Int4"},
        "cache": {"dtype": "Float16", "prefixCaching": "Disabled"},
        "speculation": {"type": "NGram", "maxDrafts": 2},
    }
    text = words(resource({"runtime": runtime, "engine": {"args": ["--threads=1"]}}), defaults)
    assert text.endswith(
        "--quantization int4 --kv-cache-dtype float16 --no-prefix-caching "
        "--speculation ngram --max-drafts 2 --threads=1"
    )


def test_techniques_at_their_defaults_add_no_option_but_the_cache_dtype(
    resource: Any, defaults: Defaults
) -> None:
    plain = words(resource({}), defaults)
    runtime = {"quantization": {"weights": "Stored"}, "speculation": {"type": "None"}}
    assert words(resource({"runtime": runtime}), defaults) == plain
    assert words(resource({"runtime": {"cache": {}}}), defaults) == plain + " --kv-cache-dtype auto"


@pytest.mark.parametrize("name", ["quantization", "cache", "speculation"])
def test_techniques_of_the_bundled_runtime_are_refused_for_other_engines(
    name: str, resource: Any
) -> None:
    spec = {"engine": {"type": "vLLM", "image": "x"}, "model": VOLUME, "runtime": {name: {}}}
    with pytest.raises(Invalid, match=r"spec\.runtime.*unless engine.type is Bundled"):
        resource(spec)


def test_vllm_gets_its_own_words(resource: Any, defaults: Defaults) -> None:
    spec = {
        "model": {**VOLUME, "aliases": ["chat"]},
        "engine": {"type": "vLLM", "image": "vllm:1", "args": ["--seed=7"]},
        "runtime": {"dtype": "BFloat16", "maxModelLength": 4096, "kvCacheBlocks": 100},
        "resources": GPUS,
    }
    engine = engine_of(resource(spec), defaults)
    assert engine["image"] == "vllm:1"
    assert " ".join(engine["command"]) == (
        "python3 -m vllm.entrypoints.openai.api_server --model /models --served-model-name r1 "
        "chat --host $(POD_IP) --port 8000 --dtype bfloat16 --max-num-seqs 8 --max-model-len 4096 "
        "--num-gpu-blocks-override 100 --block-size 16 --tensor-parallel-size 2 --seed=7"
    )
    assert engine["lifecycle"]["preStop"]["exec"]["command"][3:] == [
        *("8000", "3", "120", "vllm:num_requests_running", "vllm:num_requests_waiting")
    ]


def test_sglang_gets_its_own_words(resource: Any, defaults: Defaults) -> None:
    spec = {
        "model": VOLUME,
        "engine": {"type": "SGLang", "image": "sglang:1"},
        "runtime": {"maxModelLength": 4096, "kvCacheBlocks": 100},
        "resources": GPUS,
    }
    engine = engine_of(resource(spec), defaults)
    assert " ".join(engine["command"]) == (
        "python3 -m sglang.launch_server --model-path /models --served-model-name r1 "
        "--host $(POD_IP) --port 8000 --dtype auto --max-running-requests 8 --context-length 4096 "
        "--max-total-tokens 1600 --page-size 16 --tp-size 2 --enable-metrics"
    )
    assert engine["lifecycle"]["preStop"]["exec"]["command"][3:] == [
        *("8000", "3", "120", "sglang:num_running_reqs", "sglang:num_queue_reqs")
    ]


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
def test_engines_listen_at_the_address_of_their_pod(
    engine: str, resource: Any, defaults: Defaults
) -> None:
    spec = {"model": VOLUME, "engine": {"type": engine, "image": "x"}}
    made = engine_of(resource(spec), defaults)
    assert made["env"][0] == {
        "name": "POD_IP",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
    }
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "host" not in made[probe]["httpGet"]  # the kubelet then probes the pod's address


@pytest.mark.parametrize("given", [["--host", "::"], ["--host=0.0.0.0"]])
@pytest.mark.parametrize("engine", ["vLLM", "SGLang", "Bundled"])
def test_a_host_in_the_args_replaces_the_operators(
    engine: str, given: list[str], resource: Any, defaults: Defaults
) -> None:
    spec = {"engine": {"type": engine, "image": "x", "args": given}, "model": VOLUME}
    command = engine_of(resource(spec), defaults)["command"]
    assert [word for word in command if word.startswith("--host")] == [given[0]]
    assert command[-len(given) :] == given


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
def test_a_bundled_model_needs_the_bundled_runtime(
    engine: str, resource: Any, defaults: Defaults
) -> None:
    with pytest.raises(Unplannable, match=r"ModelSourceUnusable.*set spec\.model\.source"):
        plan_children(resource({"engine": {"type": engine, "image": "x"}}), defaults, 1)


def test_a_claim_is_mounted_read_only(resource: Any, defaults: Defaults) -> None:
    template = template_of(resource({"model": VOLUME}), defaults)
    assert {
        "name": "model",
        "persistentVolumeClaim": {"claimName": "weights", "readOnly": True},
    } in template["spec"]["volumes"]
    mounts = template["spec"]["containers"][0]["volumeMounts"]
    model = {"name": "model", "mountPath": "/models", "readOnly": True, "subPath": "r1"}
    assert model in mounts


def test_pods_keep_to_the_restricted_level(resource: Any, defaults: Defaults) -> None:
    spec = template_of(resource(), defaults)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    container = spec["containers"][0]["securityContext"]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_startup_probe_lasts_as_long_as_the_progress_deadline(
    resource: Any, defaults: Defaults
) -> None:
    engine = engine_of(resource({"rollout": {"progressDeadlineSeconds": 1801}}), defaults)
    startup = engine["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 1802
    assert engine["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert engine["livenessProbe"]["httpGet"]["path"] == "/health"
    ready, live = engine["readinessProbe"], engine["livenessProbe"]
    assert (
        live["periodSeconds"] * live["failureThreshold"]
        > ready["periodSeconds"] * ready["failureThreshold"]
    )


def test_the_grace_period_covers_leaving_and_draining(resource: Any, defaults: Defaults) -> None:
    template = template_of(resource({"rollout": {"drainSeconds": 300}}), defaults)
    leave = template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template["spec"]["terminationGracePeriodSeconds"] > 300 + leave


def test_amounts_are_the_resources_own(resource: Any, defaults: Defaults) -> None:
    amounts = {
        "limits": {"nvidia.com/gpu": 1},
        "requests": {"cpu": "2", "memory": "8Gi"},
    }
    template = template_of(resource({"resources": amounts}), defaults)
    assert template["spec"]["containers"][0]["resources"] == {
        "limits": {"nvidia.com/gpu": "1"},
        "requests": {"cpu": "2", "memory": "8Gi"},
    }
    assert template["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_without_amounts_nothing_is_claimed(resource: Any, defaults: Defaults) -> None:
    template = template_of(resource(), defaults)
    assert "resources" not in template["spec"]["containers"][0]
    assert "tolerations" not in template["spec"]


def test_prometheus_finds_the_pods(resource: Any, defaults: Defaults) -> None:
    assert template_of(resource(), defaults)["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
        "prometheus.io/path": "/metrics",
    }


def test_the_resource_replaces_the_scrape_annotations(resource: Any, defaults: Defaults) -> None:
    own = {"metadata": {"annotations": {"prometheus.io/scrape": "false"}}}
    annotations = template_of(resource({"template": own}), defaults)["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false"
    assert annotations["prometheus.io/port"] == "8000"


def test_the_resource_changes_what_the_site_added(resource: Any) -> None:
    site = {
        "spec": {
            "imagePullSecrets": [{"name": "site"}],
            "containers": [{"name": "engine", "env": [{"name": "LEVEL", "value": "info"}]}],
        }
    }
    defaults = Defaults("runtime:1", template=site)
    own = {
        "spec": {"containers": [{"name": "engine", "env": [{"name": "LEVEL", "value": "debug"}]}]}
    }
    spec = template_of(resource({"template": own}), defaults)["spec"]
    assert spec["imagePullSecrets"] == [{"name": "site"}]
    assert {"name": "LEVEL", "value": "debug"} in spec["containers"][0]["env"]
    assert {"name": "LEVEL", "value": "info"} not in spec["containers"][0]["env"]
