"""Forecaster shards of one release: identity, discovery, and one Service for clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from r1_forecasting.options import parse_options
from r1_forecasting.sharding.ownership import parse_shards

Manifest = dict[str, Any]
THREE = "forecaster.shards=3"
NAMES = ["r1-forecaster-0", "r1-forecaster-1", "r1-forecaster-2"]
FORECASTER = {"app.kubernetes.io/component": "forecaster"}


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return manifest


def of_the_forecaster(manifests: list[Manifest]) -> set[tuple[str, str]]:
    """Kind and name of the objects of the shards."""
    return {
        (m["kind"], m["metadata"]["name"])
        for m in manifests
        if FORECASTER.items() <= m["metadata"]["labels"].items()
    }


def test_one_forecaster_renders_a_deployment(render: Callable[..., list[Manifest]]) -> None:
    assert render("forecaster.shards=1") == render()
    assert of_the_forecaster(render()) == {
        (kind, "r1-forecaster")
        for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")
    }
    text = json.dumps(render(), default=str)
    assert "R1_FORECASTER_SHARD" not in text


def test_without_a_forecaster_there_are_no_shards(render: Callable[..., list[Manifest]]) -> None:
    manifests = render(THREE, "forecaster.enabled=false")
    # Of dashboards' and alerts' metadata nothing is the forecaster's.
    assert of_the_forecaster(manifests) == set()


def test_three_shards_are_a_stateful_set_behind_one_service(
    render: Callable[..., list[Manifest]],
) -> None:
    assert of_the_forecaster(render(THREE)) == {
        ("StatefulSet", "r1-forecaster"),
        ("Service", "r1-forecaster"),
        ("Service", "r1-forecaster-shards"),
        ("ConfigMap", "r1-forecaster-shards"),
        ("ServiceAccount", "r1-forecaster"),
        ("NetworkPolicy", "r1-forecaster"),
        ("PodDisruptionBudget", "r1-forecaster"),
    }
    for others in ("r1-forecaster", "r1-operator"):
        assert only(render(THREE), "Service", others) == only(render(), "Service", others)
    operators = [only(render(*given), "Deployment", "r1-operator") for given in ((), (THREE,))]
    assert operators[0] == operators[1], "the operator knows nothing of shards"


def test_each_shard_is_in_the_shard_list(
    render: Callable[..., list[Manifest]], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    manifests = render(THREE)
    listed = only(manifests, "ConfigMap", "r1-forecaster-shards")["data"]
    addresses = parse_shards(listed["shards.json"])
    headless = only(manifests, "Service", "r1-forecaster-shards")
    workload = only(manifests, "StatefulSet", "r1-forecaster")
    assert (headless["spec"]["clusterIP"], workload["spec"]["replicas"]) == ("None", 3)
    assert workload["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["publishNotReadyAddresses"] is True
    (port,) = headless["spec"]["ports"]
    # A StatefulSet's pods are called after it and counted from 0; the Service gives each a name.
    assert dict(addresses) == {
        name: f"http://{name}.r1-forecaster-shards.r1-system.svc:{port['port']}" for name in NAMES
    }
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each for each in container["env"]}
    own = environment["R1_FORECASTER_SHARD"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert own == "metadata.name"
    folder, _, file = environment["R1_FORECASTER_SHARDS"]["value"].rpartition("/")
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == folder]
    assert "subPath" not in mount, "a subPath is never brought up to date"
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    assert volume["configMap"]["name"] == "r1-forecaster-shards"

    (tmp_path / file).write_text(listed[file])
    monkeypatch.setenv("R1_FORECASTER_SHARD", NAMES[1])
    monkeypatch.setenv("R1_FORECASTER_SHARDS", str(tmp_path / file))
    options = parse_options(container["args"])
    assert options.shards.content == addresses
    assert options.shard in addresses


def test_a_change_of_the_shard_count_restarts_no_remaining_shard(
    render: Callable[..., list[Manifest]],
) -> None:
    two, three = (
        only(render(f"forecaster.shards={count}"), "StatefulSet", "r1-forecaster")["spec"]
        for count in (2, 3)
    )
    assert two["template"] == three["template"]
    assert {key for key in two if two[key] != three[key]} == {"replicas"}
    assert two["podManagementPolicy"] == "Parallel", "one that does not start holds up no other"


def test_a_service_monitor_selects_each_shard_once(render: Callable[..., list[Manifest]]) -> None:
    manifests = render(THREE, "serviceMonitor.enabled=true", apis=("monitoring.coreos.com/v1",))
    monitor = only(manifests, "ServiceMonitor", "r1-forecaster")["spec"]
    scraped = [
        (m["metadata"]["name"], port["name"])
        for m in manifests
        if m["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= m["metadata"]["labels"].items()
        for port in m["spec"]["ports"]
        if port["name"] in {endpoint["port"] for endpoint in monitor["endpoints"]}
    ]
    assert scraped == [("r1-forecaster", "http")]


@pytest.mark.parametrize(
    "given", [(), ("networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",)]
)
def test_shards_reach_each_other_with_restricted_peers(
    render: Callable[..., list[Manifest]], given: tuple[str, ...]
) -> None:
    def peers(settings: tuple[str, ...], side: str, direction: str) -> list[Any]:
        policy = only(render(*settings), "NetworkPolicy", "r1-forecaster")["spec"]
        rules = [
            rule for rule in policy[side] if {"port": 8082, "protocol": "TCP"} in rule["ports"]
        ]
        return [peer for rule in rules for peer in rule.get(direction, [{}])]

    def shards(shard_count: list[Any]) -> bool:
        return any(
            FORECASTER.items() <= peer.get("podSelector", {}).get("matchLabels", {}).items()
            for peer in shard_count
        )

    sharded = (THREE, *given)
    assert shards(peers(sharded, "egress", "to"))
    assert not peers(given, "egress", "to")
    ingress = peers(sharded, "ingress", "from")
    assert shards(ingress) or {} in ingress, "in the list, or everybody"
    assert not shards(peers(given, "ingress", "from"))


def test_names_that_a_stateful_set_cannot_have_are_refused(
    helm: Callable[..., Any], chart: Any
) -> None:
    """Pod labels are the StatefulSet name plus 11 characters, within the limit of 63."""

    def error_of(prefix: int, shards: int) -> str:
        settings = f"namePrefix={'a' * prefix},forecaster.shards={shards},imageRegistry=x"
        done = helm("template", "r1", str(chart), "--kube-version", "1.34.4", "--set", settings)
        return str(done.stderr)

    assert error_of(41, 2) == error_of(50, 1) == ""
    assert "forecaster.shards: " in error_of(42, 2)
    assert "at most 41 characters" in error_of(42, 2)
