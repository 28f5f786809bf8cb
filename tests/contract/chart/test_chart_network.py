"""NetworkPolicies and Services: allowed connections, existing selectors and ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from r1_operator.api.backtest.spec import BacktestSpec, R1Backtest
from r1_operator.plan.backtest.job import labels

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet")
BACKTEST = {"app.kubernetes.io/name": "r1backtest", "app.kubernetes.io/managed-by": "r1-operator"}
MODEL_POD = {"deepseek.ai/r1inference": "production-r1"}


def component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return pod templates by component, with the test pod."""
    by_component = {
        component(m): m["spec"]["template"] for m in manifests if m["kind"] in WORKLOADS
    }
    return by_component | {component(m): m for m in manifests if m["kind"] == "Pod"}


def chosen(selector: dict[str, str], manifests: list[Manifest]) -> set[str]:
    """Return the components whose pods have all labels of the selector."""
    return {
        name
        for name, template in templates(manifests).items()
        if selector.items() <= template["metadata"]["labels"].items()
    }


def port_names(template: Manifest) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }


def policies(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the policies of the chart's pods, without those of backtest Jobs."""
    by_component = {component(m): m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    by_component.pop("backtest", None)
    return by_component


def flows(rules: list[Manifest], side: str) -> set[tuple[int, str]]:
    """Return (port, peer): a component, "models", "given" for peers of the values, or "any"."""
    allowed = set()
    for rule in rules:
        peers = set()
        for peer in rule.get(side, [{}]):
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if peer.get("podSelector", {}).get("matchExpressions"):
                peers.add("models")
            elif "app.kubernetes.io/component" in labels:
                peers.add(labels["app.kubernetes.io/component"])
            else:
                peers.add("given" if peer else "any")
        allowed |= {(port["port"], peer) for port in rule["ports"] for peer in peers}
    return allowed


def test_services_select_one_component_and_an_existing_port(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "Service":
            assert chosen(manifest["spec"]["selector"], manifests) == {component(manifest)}
            names = port_names(templates(manifests)[component(manifest)])
            for port in manifest["spec"]["ports"]:
                assert port["targetPort"] in names


def test_budgets_and_monitors_select_their_components(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "PodDisruptionBudget":
            selector = manifest["spec"]["selector"]["matchLabels"]
            assert chosen(selector, manifests) == {component(manifest)}
        if manifest["kind"] == "ServiceMonitor":
            selector = manifest["spec"]["selector"]["matchLabels"]
            services = [
                m
                for m in manifests
                if m["kind"] == "Service" and selector.items() <= m["metadata"]["labels"].items()
            ]
            assert {component(m) for m in services} == {component(manifest)}
            wanted = {endpoint["port"] for endpoint in manifest["spec"]["endpoints"]}
            assert wanted <= {port["name"] for s in services for port in s["spec"]["ports"]}


def test_network_policies_select_existing_pods_and_peers(manifests: list[Manifest]) -> None:
    for name, policy in policies(manifests).items():
        assert chosen(policy["podSelector"]["matchLabels"], manifests) == {name}
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        own = set(port_names(templates(manifests)[name]).values())
        assert {port for port, _ in flows(policy["ingress"], "from")} == own
        for rule in policy["ingress"] + policy["egress"]:
            for peer in rule.get("from", []) + rule.get("to", []):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if "app.kubernetes.io/component" in labels:
                    (other,) = chosen(labels, manifests)
                    ports = set(port_names(templates(manifests)[other]).values())
                    if "to" in rule:
                        assert {port["port"] for port in rule["ports"]} <= ports


def test_default_network_policies_allow_the_documented_flows(
    render: Callable[..., list[Manifest]],
) -> None:
    allowed_flows = {
        name: (flows(policy["ingress"], "from"), flows(policy["egress"], "to"))
        for name, policy in policies(render()).items()
    }
    dns, api = {(53, "any")}, {(443, "any"), (6443, "any")}
    assert allowed_flows == {
        "operator": (
            {(8080, "any")},
            dns | api | {(8081, "gateway"), (8082, "forecaster"), (9090, "any")},
        ),
        "gateway": ({(8000, "any"), (8081, "any")}, dns | api | {(8000, "models")}),
        "forecaster": ({(8082, "any")}, dns | {(9090, "any")}),
    }


def test_backtest_pods_reach_prometheus_and_accept_no_connections(
    render: Callable[..., list[Manifest]],
) -> None:
    def of(*settings: str) -> Manifest:
        (spec,) = [
            m["spec"]
            for m in render(*settings)
            if (m["kind"], m["metadata"]["name"]) == ("NetworkPolicy", "r1-backtest")
        ]
        return dict(spec)

    policy = of("forecaster.enabled=false")
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    assert flows(policy["egress"], "to") == {(53, "any"), (9090, "any")}
    given = of("networkPolicy.prometheusTo[0].podSelector.matchLabels.app=prometheus")
    assert flows(given["egress"], "to") == {(53, "any"), (9090, "given")}
    made = labels(R1Backtest("any", "default", BacktestSpec("production-r1"), uid="1"))
    assert policy["podSelector"]["matchLabels"] == BACKTEST
    assert BACKTEST.items() <= made.items(), "the operator's Jobs carry these labels"
    assert not chosen(BACKTEST, render()), "no pod of the chart itself"


def test_ports_for_other_autoscalers_are_opt_in(
    render: Callable[..., list[Manifest]],
) -> None:
    def forecaster(*settings: str) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
        policy = policies(render(*settings))["forecaster"]
        return flows(policy["ingress"], "from"), flows(policy["egress"], "to")

    incoming, outgoing = forecaster()
    assert forecaster("forecaster.keda.enabled=true") == (incoming | {(8083, "any")}, outgoing)
    assert forecaster("forecaster.externalMetrics.enabled=true") == (
        incoming | {(8443, "any")},
        outgoing | {(443, "any"), (6443, "any")},
    )
    given, _ = forecaster(
        "forecaster.keda.enabled=true", "networkPolicy.kedaFrom[0].podSelector.matchLabels.app=keda"
    )
    assert given == incoming | {(8083, "given")}


def test_configured_peers_restrict_ports_except_for_own_components(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render(
        "networkPolicy.clientsFrom[0].ipBlock.cidr=10.0.0.0/8",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
        "networkPolicy.apiServerTo[0].ipBlock.cidr=10.1.0.1/32",
        "networkPolicy.prometheusTo[0].podSelector.matchLabels.app=prometheus",
        "networkPolicy.prometheusPorts={9091}",
    )
    by_component = policies(manifests)
    assert flows(by_component["gateway"]["ingress"], "from") == {
        (8000, "given"),
        (8000, "test"),
        (8081, "given"),
        (8081, "operator"),
    }
    assert flows(by_component["forecaster"]["ingress"], "from") == {
        (8082, "given"),
        (8082, "operator"),
    }
    assert flows(by_component["forecaster"]["egress"], "to") == {(53, "any"), (9091, "given")}
    assert {(443, "given"), (6443, "given")} <= flows(by_component["operator"]["egress"], "to")


def test_the_gateway_egress_selects_model_pods(
    render: Callable[..., list[Manifest]],
) -> None:
    (rule,) = [
        rule
        for rule in policies(render())["gateway"]["egress"]
        if any(peer.get("podSelector") for peer in rule.get("to", []))
    ]
    (peer,) = rule["to"]
    assert peer["namespaceSelector"] == {}, "models live in any namespace"
    (expression,) = peer["podSelector"]["matchExpressions"]
    assert expression == {"key": next(iter(MODEL_POD)), "operator": "Exists"}


def test_settings_reference_services_of_the_chart(manifests: list[Manifest]) -> None:
    services = {
        (m["metadata"]["namespace"], m["metadata"]["name"]): {
            port["port"] for port in m["spec"]["ports"]
        }
        for m in manifests
        if m["kind"] == "Service"
    }
    (container,) = templates(manifests)["operator"]["spec"]["containers"]
    settings = {each["name"]: each.get("value", "") for each in container["env"]}
    namespace, _, name = settings["R1_GATEWAY_SERVICE"].partition("/")
    assert (namespace, name) in services
    if url := settings.get("R1_FORECASTER_URL"):
        host, _, port = url.removeprefix("http://").partition(":")
        name, namespace, _ = host.split(".")
        assert int(port) in services[namespace, name]
