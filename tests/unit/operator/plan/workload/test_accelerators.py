"""Accelerator count of a resource, shared by engine, tolerations and budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_operator.api.accelerators import WHOLE_GPUS
from r1_operator.api.names import ConditionReason
from r1_operator.api.v1 import Spec, parse
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children
from r1_operator.plan.workload.accelerators import accelerators_of
from r1_operator.settings import BadSetting, OperatorSettings

Json = dict[str, Any]
NAMES = [
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.5gb",
    "nvidia.com/mig-3g.40gb",
    "nvidia.com/mig-1g.10gb.shared",
    "amd.com/gpu",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
    "habana.ai/gaudi",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
    "aws.amazon.com/neurondevice",
    "example.com/npu",
]
OTHERS = ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "rdma/hca", "intel.com/sgx"]
SITE = Defaults(runtime_image="runtime:1", accelerators=("example.com/npu",))
TAINTED_AS = {
    "nvidia.com/gpu.shared": "nvidia.com/gpu",
    "nvidia.com/mig-3g.40gb": "nvidia.com/gpu",
    "aws.amazon.com/neuroncore": "aws.amazon.com/neuron",
}


def engine(limits: Json, **more: Any) -> Json:
    return {"name": "engine", "resources": {"limits": limits}, **more}


def written(amounts: Json, where: str) -> Json:
    """The same amounts in each place where a resource may set them."""
    if where == "limits":
        return {"resources": {"limits": amounts}}
    if where == "requests":
        return {"resources": {"requests": amounts}}
    return {"template": {"spec": {"containers": [engine(amounts)]}}}


def spec_of(spec: Json) -> Spec:
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": {"name": "r1"}}
    return parse({**manifest, "spec": spec}, strict=True).spec


def pod_of(resource: Any, spec: Json, kind: str = "vLLM", defaults: Defaults = SITE) -> Json:
    source = {"model": {"source": {"path": "/models"}}}
    wanted = {**source, "engine": {"type": kind, "image": "x"}, **spec}
    pod: Json = plan_children(resource(wanted), defaults, 1)[-1]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("where", ["limits", "requests", "template"])
@pytest.mark.parametrize("name", NAMES)
def test_every_accelerator_reaches_engine_tolerations_and_budget(
    name: str, where: str, resource: Any
) -> None:
    spec = written({name: 8}, where)
    pod = pod_of(resource, spec)
    command = pod["containers"][0]["command"]
    assert command[command.index("--tensor-parallel-size") + 1] == "8"
    sglang = pod_of(resource, spec, "SGLang")["containers"][0]["command"]
    assert sglang[sglang.index("--tp-size") + 1] == "8"
    keys = [one["key"] for one in pod["tolerations"]]
    assert name in keys
    assert TAINTED_AS.get(name, name) in keys
    autoscaling = {
        "maxReplicas": 20,
        "metrics": [{"type": "Concurrency", "target": 4}],
        "budget": {"gpus": 17, "cost": {"limitPerHour": 40, "pricePerGpuHour": 1}},
    }
    bounds = ceilings_of(spec_of({**spec, "autoscaling": autoscaling}), SITE)
    assert [bound.replicas for bound in bounds] == [2, 5]


@pytest.mark.parametrize("name", OTHERS)
def test_other_resources_are_no_accelerators(name: str, resource: Any) -> None:
    pod = pod_of(resource, {"resources": {"limits": {name: 8}}})
    assert "--tensor-parallel-size" not in pod["containers"][0]["command"]
    assert "tolerations" not in pod


def test_nvidia_gpus_are_tolerated_once(resource: Any) -> None:
    pod = pod_of(resource, {"resources": {"limits": {"nvidia.com/gpu": 2}}})
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_a_name_counts_only_where_the_site_says_so(resource: Any) -> None:
    spec = {"resources": {"limits": {"example.com/npu": 8}}}
    assert accelerators_of(spec_of(spec), SITE).per_replica == 8
    assert accelerators_of(spec_of(spec), replace(SITE, accelerators=())).per_replica == 0


def test_engine_and_others_are_counted_apart(resource: Any) -> None:
    containers = [
        engine({"nvidia.com/gpu": 4}),
        {"name": "reranker", "image": "x", "resources": {"limits": {"nvidia.com/mig-1g.5gb": 1}}},
    ]
    init = [{"name": "check", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 8}}}]
    template = {"spec": {"containers": containers, "initContainers": init}}
    counts = accelerators_of(spec_of({"template": template}))
    assert counts.engine == {"nvidia.com/gpu": 4}
    assert counts.replica == {"nvidia.com/gpu": 8, "nvidia.com/mig-1g.5gb": 1}, "init peaks"
    pod = pod_of(resource, {"template": template})
    assert "--tensor-parallel-size 4" in " ".join(pod["containers"][0]["command"])
    keys = [one["key"] for one in pod["tolerations"]]
    assert keys == ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb"]


def test_the_template_changes_and_removes_what_resources_set() -> None:
    spec = {"resources": {"limits": {"nvidia.com/gpu": 8}}}
    less = {"template": {"spec": {"containers": [engine({"nvidia.com/gpu": 2})]}}}
    none = {"template": {"spec": {"containers": [engine({"nvidia.com/gpu": None})]}}}
    assert accelerators_of(spec_of(spec | less)).per_replica == 2
    assert accelerators_of(spec_of(spec | none)).per_replica == 0


def test_the_sites_template_counts_too() -> None:
    template = {"spec": {"containers": [engine({"amd.com/gpu": 4})]}}
    site = Defaults(runtime_image="x", template=template)
    assert accelerators_of(spec_of({}), site).engine == {"amd.com/gpu": 4}
    assert accelerators_of(spec_of({})).engine == {}


AMOUNTS = st.one_of(
    st.none(), st.integers(-2, 9), st.text(max_size=3), st.booleans(), st.just({"a": 1})
)
PLACES = st.sampled_from(["limits", "requests", "claims", "x"])
RESOURCES = st.one_of(
    st.none(),
    st.integers(),
    st.dictionaries(PLACES, st.dictionaries(st.sampled_from(NAMES), AMOUNTS)),
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"name": st.sampled_from(["engine", "x", 3]), "resources": RESOURCES}
    ),
    max_size=3,
)


@given(
    st.dictionaries(
        st.sampled_from(["containers", "initContainers", "resources", "overhead"]),
        st.one_of(CONTAINERS, st.integers(), RESOURCES),
    )
)
def test_any_template_has_a_count(spec: Json) -> None:
    counts = accelerators_of(spec_of({"template": {"spec": spec}}), SITE)
    assert counts.per_replica >= 0
    assert counts.for_engine >= 0


@pytest.mark.parametrize("where", ["limits", "template"])
@pytest.mark.parametrize("name", sorted(WHOLE_GPUS))
def test_the_bundled_engine_is_given_the_number_of_its_gpus(
    name: str, where: str, resource: Any
) -> None:
    def bundled(count: int) -> Json:
        return pod_of(resource, {"engine": {}, "model": {}, **written({name: count}, where)})

    one, eight = bundled(1), bundled(8)
    assert "--tensor-parallel-size" not in one["containers"][0]["command"]
    command = " ".join(eight["containers"][0]["command"])
    assert "--tensor-parallel-size 8 --device cuda" in command
    assert [volume["name"] for volume in eight["volumes"]] == ["tmp", "shm"]
    assert one["volumes"] == [{"name": "tmp", "emptyDir": {}}]


@pytest.mark.parametrize("where", ["limits", "template"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE_GPUS])
def test_the_bundled_engine_takes_one_accelerator_of_other_kinds(
    name: str, where: str, resource: Any
) -> None:
    def bundled(count: int) -> Json:
        return pod_of(resource, {"engine": {}, "model": {}, **written({name: count}, where)})

    assert name in [one["key"] for one in bundled(1)["tolerations"]]
    with pytest.raises(Unplannable) as refused:
        bundled(8)
    problem = refused.value.problem
    assert problem.reason is ConditionReason.TOO_MANY_ACCELERATORS
    assert f"8 {name}" in problem.message
    assert ("spec.resources.limits" if where == "limits" else "spec.template") in problem.message
    assert "spec.engine.type to vLLM or SGLang" in problem.message


def test_two_kinds_of_one_are_more_than_one(resource: Any) -> None:
    limits = {"nvidia.com/gpu": 1, "amd.com/gpu": 1}
    with pytest.raises(Unplannable, match=r"1 amd\.com/gpu, 1 nvidia\.com/gpu"):
        pod_of(resource, {"engine": {}, "model": {}, "resources": {"limits": limits}})


def test_a_sidecars_gpu_does_not_make_the_bundled_engine_refuse(resource: Any) -> None:
    side = {"name": "side", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    template = {"spec": {"containers": [engine({"nvidia.com/gpu": 1}), side]}}
    assert pod_of(resource, {"engine": {}, "model": {}, "template": template})["tolerations"]


CLAIM: Json = {
    "spec": {
        "resourceClaims": [{"name": "gpus", "resourceClaimTemplateName": "eight-gpus"}],
        "containers": [{"name": "engine", "resources": {"claims": [{"name": "gpus"}]}}],
    }
}


@pytest.mark.parametrize("kind", ["Bundled", "vLLM", "SGLang"])
def test_device_claims_reach_the_pod(kind: str, resource: Any) -> None:
    spec: Json = {"template": CLAIM, "resources": {"requests": {"cpu": 2}}}
    spec |= {"engine": {}, "model": {}} if kind == "Bundled" else {}
    pod = pod_of(resource, spec, kind)
    assert pod["resourceClaims"] == CLAIM["spec"]["resourceClaims"]
    resources = pod["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "2"}, "claims": [{"name": "gpus"}]}
    assert accelerators_of(spec_of(spec)).claimed


@pytest.mark.parametrize(
    "spec",
    [
        {"resources": {"limits": {"nvidia.com/gpu": 1}}},
        {"template": {"spec": {"containers": [engine({"amd.com/gpu": 4})]}}},
        {"template": CLAIM},
    ],
    ids=["resources", "template", "claim"],
)
def test_an_engine_that_requests_accelerators_gets_the_gpu_image(spec: Json, resource: Any) -> None:
    def image(spec: Json, defaults: Defaults) -> str:
        made = pod_of(resource, {"engine": {}, "model": {}, **spec}, "Bundled", defaults)
        return str(made["containers"][0]["image"])

    site = replace(SITE, runtime_gpu_image="runtime-cuda:1")
    assert image(spec, site) == "runtime-cuda:1"
    assert image(spec, SITE) == "runtime:1", "one image for all where the site has no other"
    assert image({}, site) == "runtime:1"
    assert image({**spec, "engine": {"image": "own:1"}}, site) == "own:1"


def test_a_sidecars_gpu_gives_the_engine_no_gpu_image(resource: Any) -> None:
    side = {"name": "side", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    site = replace(SITE, runtime_gpu_image="runtime-cuda:1")
    template = {"spec": {"containers": [{"name": "engine"}, side]}}
    made = pod_of(resource, {"engine": {}, "model": {}, "template": template}, "Bundled", site)
    assert made["containers"][0]["image"] == "runtime:1"


@pytest.mark.parametrize(
    ("template", "why"), [(CLAIM, "ResourceClaim"), ({"spec": {"nodeSelector": {}}}, "none")]
)
def test_a_budget_of_what_cannot_be_counted_is_refused(
    template: Json, why: str, resource: Any
) -> None:
    autoscaling = {
        "maxReplicas": 4,
        "metrics": [{"type": "Concurrency", "target": 4}],
        "budget": {"gpus": 8},
    }
    with pytest.raises(Unplannable, match=rf"budget\.gpus counts accelerators.*{why}.*"):
        pod_of(resource, {"template": template, "autoscaling": autoscaling})
    other = {**autoscaling, "budget": {"power": {"limitWatts": 100, "wattsPerReplica": 10}}}
    assert pod_of(resource, {"template": template, "autoscaling": other})


@pytest.mark.parametrize("name", ["gpu", "/gpu", "example.com/", ""])
def test_a_further_name_has_a_domain(name: str) -> None:
    with pytest.raises(BadSetting, match="vendor"):
        OperatorSettings(accelerators=(name,)).checked()


def test_further_names_are_read_from_the_environment() -> None:
    settings = OperatorSettings.load((), {"R1_ACCELERATORS": "example.com/npu, other.io/x"})
    assert settings.accelerators == ("example.com/npu", "other.io/x")
