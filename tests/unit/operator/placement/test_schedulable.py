"""Schedulable capacity: suitable nodes, number of replicas, and the summary."""

from fractions import Fraction
from typing import Any

import pytest

from r1_operator.plan.placement.node_parsing import add_pod, read_node, read_shape, requests_of
from r1_operator.plan.placement.schedulable import Node, SchedulableCapacity, schedulable_replicas

GPU = "nvidia.com/gpu"


def container(restart: str | None = None, **requests: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": "c", "resources": {"requests": requests}}
    return spec | ({"restartPolicy": restart} if restart else {})


def pod_spec(gpus: int = 1, **more: Any) -> dict[str, Any]:
    limits = {GPU: gpus, "memory": "8Gi"}
    return {"containers": [{"name": "engine", "resources": {"limits": limits}}], **more}


def node_object(name: str = "a", gpus: Any = 8, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": more,
        "status": {
            "allocatable": {GPU: gpus, "memory": "64Gi", "cpu": "32", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod_object(node: str | None, phase: str = "Running", **spec: Any) -> dict[str, Any]:
    return {"spec": {**pod_spec(**spec), "nodeName": node}, "status": {"phase": phase}}


def node_of(pods: list[dict[str, Any]], **more: Any) -> Node:
    used: dict[str, dict[str, Fraction]] = {}
    for pod in pods:
        add_pod(used, pod)
    return read_node(node_object(**more), used.get("a", {}))


class TestRequestsOfAPod:
    def test_containers_add_up_and_limits_stand_in_for_requests(self) -> None:
        spec = {"containers": [container(cpu="500m"), {"resources": {"limits": {"cpu": 1}}}, {}]}
        assert requests_of(spec) == {"cpu": Fraction(3, 2)}

    def test_init_containers_count_where_they_need_more(self) -> None:
        spec = {
            "initContainers": [
                container(cpu=1),
                container("Always", cpu=2),
                container(cpu=4, memory="1Gi"),
            ],
            "containers": [container(cpu=3)],
            "overhead": {"cpu": "250m"},
        }
        assert requests_of(spec) == {"cpu": Fraction(25, 4), "memory": 2**30}

    def test_the_figure_of_the_whole_pod_comes_before_its_containers(self) -> None:
        spec = {"containers": [container(cpu=1)], "resources": {"requests": {"cpu": 5}}}
        assert requests_of(spec) == {"cpu": 5}

    def test_an_invalid_amount_counts_as_zero(self) -> None:
        assert requests_of({"containers": [container(cpu="lots"), container(cpu=None)]}) == {}
        assert requests_of({}) == {}


class TestFreeOnANode:
    def test_requests_of_pods_are_not_free(self) -> None:
        pods = [pod_object("a", gpus=3), pod_object("b", gpus=5), pod_object(None, gpus=5)]
        ended = [pod_object("a", phase) for phase in ("Succeeded", "Failed")]
        node = node_of(pods + ended)
        assert node.free[GPU] == 5
        assert node.free["pods"] == 109

    @pytest.mark.parametrize(
        ("change", "ready"),
        [
            ({}, True),
            ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, False),
            ({"status": {}}, False),
        ],
    )
    def test_only_ready_nodes_count(self, change: dict[str, Any], ready: bool) -> None:
        assert read_node(node_object() | change, {}).ready is ready


class TestWhichNodes:
    def suits(self, node: dict[str, Any], **spec: Any) -> bool:
        return (
            schedulable_replicas(read_shape(pod_spec(**spec)), [read_node(node, {})]).suitable == 1
        )

    def test_the_selector(self) -> None:
        node = node_object(labels={"gpu": "h100"})
        assert self.suits(node, nodeSelector={"gpu": "h100"})
        assert not self.suits(node, nodeSelector={"gpu": "a100"})
        assert not self.suits(node, nodeSelector={"zone": "x"})

    @pytest.mark.parametrize(
        ("expression", "suits"),
        [
            ({"key": "gpu", "operator": "In", "values": ["h100", "h200"]}, True),
            ({"key": "gpu", "operator": "NotIn", "values": ["h100"]}, False),
            ({"key": "zone", "operator": "NotIn", "values": ["h100"]}, True),
            ({"key": "gpu", "operator": "Exists"}, True),
            ({"key": "zone", "operator": "Exists"}, False),
            ({"key": "zone", "operator": "DoesNotExist"}, True),
            ({"key": "memory", "operator": "Gt", "values": ["79"]}, True),
            ({"key": "memory", "operator": "Lt", "values": ["80"]}, False),
            ({"key": "gpu", "operator": "Gt", "values": ["1"]}, False),
            ({"key": "gpu", "operator": "Like", "values": ["h"]}, False),
        ],
    )
    def test_required_affinity(self, expression: dict[str, Any], suits: bool) -> None:
        node = node_object(labels={"gpu": "h100", "memory": "80"})
        assert self.suits(node, affinity=affinity({"matchExpressions": [expression]})) is suits

    def test_terms_are_alternatives_and_an_empty_one_matches_nothing(self) -> None:
        by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}
        assert self.suits(node_object(), affinity=affinity({}, by_name))
        assert not self.suits(node_object(), affinity=affinity({}))
        assert not self.suits(node_object(name="b"), affinity=affinity(by_name))

    @pytest.mark.parametrize(
        ("toleration", "suits"),
        [
            ({"key": GPU, "operator": "Exists", "effect": "NoSchedule"}, True),
            ({"key": GPU, "operator": "Exists"}, True),
            ({"operator": "Exists"}, True),
            ({"key": GPU, "value": "yes"}, True),
            ({"key": GPU, "value": "no"}, False),
            ({"key": GPU, "operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "other", "operator": "Exists"}, False),
        ],
    )
    def test_taints(self, toleration: dict[str, Any], suits: bool) -> None:
        node = node_object(taints=[{"key": GPU, "value": "yes", "effect": "NoSchedule"}])
        assert self.suits(node, tolerations=[toleration]) is suits
        assert not self.suits(node)

    def test_a_cordon_is_passed_by_those_who_tolerate_it(self) -> None:
        node = node_object(unschedulable=True)
        assert not self.suits(node)
        assert not self.suits(node, tolerations=[{"key": GPU, "operator": "Exists"}])
        assert self.suits(node, tolerations=[{"operator": "Exists"}])

    def test_a_prefer_no_schedule_taint_excludes_no_pod(self) -> None:
        assert self.suits(node_object(taints=[{"key": "x", "effect": "PreferNoSchedule"}]))


class TestHowMany:
    def test_the_scarcest_resource_of_each_node_counts(self) -> None:
        nodes = [
            read_node(node_object(f"n{index}", gpus), {}) for index, gpus in enumerate([5, 4, 1])
        ]
        room = schedulable_replicas(read_shape(pod_spec(gpus=2)), nodes)
        assert room == SchedulableCapacity(4, {2: 2}, 3, ((GPU, 1),))
        assert room.summary == "2 nodes fit 2; 1 node without free nvidia.com/gpu"

    def test_memory_and_the_number_of_pods_bound_it_too(self) -> None:
        memory = node_of([pod_object("a", gpus=0) for _ in range(7)])
        assert schedulable_replicas(read_shape(pod_spec()), [memory]).replicas == 1
        full = node_of([{"spec": {"nodeName": "a"}} for _ in range(110)])
        assert schedulable_replicas(read_shape(pod_spec()), [full]).short == (("pods", 1),)

    def test_an_overcommitted_node_and_one_without_the_device_have_no_room(self) -> None:
        over = node_of([pod_object("a", gpus=9)])
        without = node_object("b")
        del without["status"]["allocatable"][GPU]
        room = schedulable_replicas(read_shape(pod_spec()), [over, read_node(without, {})])
        assert (room.replicas, room.short) == (0, ((GPU, 2),))
        assert room.summary == "2 nodes without free nvidia.com/gpu"

    def test_the_summary_of_several_nodes_and_of_none(self) -> None:
        assert SchedulableCapacity(7, {2: 1, 1: 5}, 6).summary == "1 node fits 2, 5 nodes fit 1"
        assert (
            SchedulableCapacity(0).summary == "no node matches the pod's node selectors and taints"
        )


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
