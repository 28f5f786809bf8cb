"""All RBAC permissions of the chart as one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Manifest = dict[str, Any]
Right = tuple[str, str, str]

READ = ("get", "list", "watch")
OWN = (*READ, "create", "patch", "delete")


def rights(role: Manifest) -> set[Right]:
    """Return (group/resource, resourceNames, verb) of all rules."""
    return {
        (f"{group}/{resource}", ",".join(rule.get("resourceNames", [])), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def table(rows: dict[str, tuple[str, ...]], names: str = "") -> set[Right]:
    return {(resource, names, verb) for resource, verbs in rows.items() for verb in verbs}


OPERATOR = table(
    {
        "deepseek.ai/r1inferences": READ,
        "deepseek.ai/r1inferences/status": ("patch",),
        # Deleted are finished ones whose ttlSecondsAfterFinished is over.
        "deepseek.ai/r1backtests": (*READ, "delete"),
        "deepseek.ai/r1backtests/status": ("patch",),
        # For ownerReferences with blockOwnerDeletion, where that is enforced (OpenShift).
        "deepseek.ai/r1inferences/finalizers": ("update",),
        "apps/deployments": OWN,
        "/services": OWN,
        "/configmaps": OWN,
        "policy/poddisruptionbudgets": OWN,
        # One annotation: which model pods go first when the count falls.
        "/pods": (*READ, "patch"),
        "events.k8s.io/events": ("create", "patch"),
        # Authorization comes before "not found": without the right, a cluster that has no such API
        # would answer "forbidden".
        "monitoring.coreos.com/servicemonitors": OWN,
    }
)
OPERATOR_AT_HOME = (
    table({"coordination.k8s.io/leases": ("create",)})
    | table({"coordination.k8s.io/leases": ("get", "update")}, names="r1-operator")
    | table({"discovery.k8s.io/endpointslices": READ})
    # R1Backtests run as Jobs at home, and answer by their pods.
    | table({"batch/jobs": (*READ, "create", "delete"), "/pods": ("list", "watch")})
)
# A Role that kube-apiserver makes in every cluster: who its own client certificate is signed by.
READER = ("Role", "kube-system", "extension-apiserver-authentication-reader")
# On request: what is free is what nodes have less what all pods ask for.
OPERATOR_OF_NODES = table({"/nodes": ("list",), "/pods": ("list",)})
GATEWAY_AT_HOME = table({"discovery.k8s.io/endpointslices": READ})
GATEWAY = table(
    {
        "/configmaps": READ,
        "discovery.k8s.io/endpointslices": READ,
        # A ConfigMap whose route cannot be used; Events can neither be read nor changed.
        "events.k8s.io/events": ("create",),
    }
)


def test_the_role_table_is_exact(render: Callable[..., list[Manifest]]) -> None:
    granted = {
        (m["kind"], m["metadata"]["name"]): rights(m)
        for m in render()
        if m["kind"] in ("Role", "ClusterRole")
    }
    assert granted == {
        ("ClusterRole", "r1-system-r1-operator"): OPERATOR,
        ("Role", "r1-operator"): OPERATOR_AT_HOME,
        ("ClusterRole", "r1-system-r1-gateway"): GATEWAY,
        ("Role", "r1-gateway"): GATEWAY_AT_HOME,
    }


def roles(manifests: list[Manifest]) -> dict[tuple[str | None, str], set[Right]]:
    return {
        (m["metadata"].get("namespace"), m["metadata"]["name"]): rights(m)
        for m in manifests
        if m["kind"] in ("Role", "ClusterRole")
    }


def test_one_watched_namespace_needs_no_cluster_role(
    render: Callable[..., list[Manifest]],
) -> None:
    assert roles(render("watchNamespaces={team-a}")) == {
        ("r1-system", "r1-operator"): OPERATOR_AT_HOME,
        ("r1-system", "r1-gateway"): GATEWAY_AT_HOME,
        ("team-a", "r1-system-r1-operator"): OPERATOR,
        ("team-a", "r1-system-r1-gateway"): GATEWAY,
    }


def test_with_several_only_the_gateway_reads_cluster_wide(
    render: Callable[..., list[Manifest]],
) -> None:
    assert roles(render("watchNamespaces={team-a,team-b}")) == {
        ("r1-system", "r1-operator"): OPERATOR_AT_HOME,
        ("r1-system", "r1-gateway"): GATEWAY_AT_HOME,
        ("team-a", "r1-system-r1-operator"): OPERATOR,
        ("team-b", "r1-system-r1-operator"): OPERATOR,
        (None, "r1-system-r1-gateway"): GATEWAY,
    }


@pytest.mark.parametrize("watched", [(), ("watchNamespaces={team-a}",)])
def test_read_nodes_grants_listing_of_nodes(
    render: Callable[..., list[Manifest]], watched: tuple[str, ...]
) -> None:
    without, manifests = roles(render(*watched)), render(*watched, "operator.readNodes=true")
    added = (None, "r1-system-r1-operator-nodes")
    assert roles(manifests) == without | {added: OPERATOR_OF_NODES}
    (binding,) = [
        m
        for m in manifests
        if m["kind"] == "ClusterRoleBinding" and m["metadata"]["name"] == added[1]
    ]
    assert binding["roleRef"]["name"] == added[1]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "r1-operator", "namespace": "r1-system"}
    ]


def test_roles_have_no_wildcards_secrets_or_escalation(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in ("Role", "ClusterRole"):
            continue
        for resource, _, verb in rights(manifest):
            assert "*" not in resource + verb
            assert verb not in ("escalate", "bind", "impersonate", "deletecollection")
            assert resource.split("/")[1] not in ("secrets", "serviceaccounts")
            assert resource != "/nodes" or verb == "list"


def test_every_binding_joins_an_account_and_a_role_that_exist(manifests: list[Manifest]) -> None:
    accounts = {
        (m["metadata"]["namespace"], m["metadata"]["name"])
        for m in manifests
        if m["kind"] == "ServiceAccount"
    }
    roles = {
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"])
        for m in manifests
        if m["kind"] in ("Role", "ClusterRole")
    }
    bound = set()
    for manifest in manifests:
        if manifest["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        reference = manifest["roleRef"]
        role = (reference["kind"], manifest["metadata"].get("namespace"), reference["name"])
        assert role in roles | {READER}
        bound.add(role)
        for subject in manifest["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts
    assert bound - {READER} == roles


def bindings_of_the_forecaster(manifests: list[Manifest]) -> list[Manifest]:
    return [
        m
        for m in manifests
        if any(subject["name"].endswith("forecaster") for subject in m.get("subjects", []))
    ]


def test_the_forecaster_has_no_api_permissions(render: Callable[..., list[Manifest]]) -> None:
    assert bindings_of_the_forecaster(render()) == []
    assert bindings_of_the_forecaster(render("forecaster.keda.enabled=true")) == []


def test_the_forecaster_may_read_only_the_client_ca_for_external_metrics(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render("forecaster.externalMetrics.enabled=true")
    (binding,) = bindings_of_the_forecaster(manifests)
    assert (binding["kind"], binding["metadata"]["namespace"]) == ("RoleBinding", READER[1])
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (READER[0], READER[2])
    assert binding["metadata"]["name"] == "r1-system-r1-forecaster", "two releases never meet"
    assert roles(manifests) == roles(render()), "no role of its own"
