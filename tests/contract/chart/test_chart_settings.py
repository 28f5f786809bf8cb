"""The component reads each environment variable and flag that the chart sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import r1_forecasting.options
from r1_gateway.options import parse_options
from r1_operator.api.backtest.spec import BacktestSpec, R1Backtest
from r1_operator.api.v1 import parse
from r1_operator.controller.reconcile.site_templates import check_site_templates
from r1_operator.plan.backtest.job import build_job
from r1_operator.plan.backtest.observed import BacktestObservation, BacktestSite
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children
from r1_operator.settings import OperatorSettings

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet")
GATEWAY = "R1_GATEWAY_"
RATE = {"type": "RequestsPerSecond", "target": 8}
FORECASTER_READS = {
    "R1_FORECASTER_LOG_LEVEL",
    "R1_FORECASTER_KEDA_PORT",
    "R1_FORECASTER_MODEL_STORE",
    "R1_FORECASTER_EXTERNAL_METRICS_PORT",
    "R1_FORECASTER_EXTERNAL_METRICS_TLS",
    "R1_FORECASTER_PROMETHEUS_CLIENT",
    "R1_FORECASTER_PUBLISHED",
    "R1_FORECASTER_SHARD",
    "R1_FORECASTER_SHARDS",
}


def container(manifests: list[Manifest], component: str) -> Manifest:
    (workload,) = [
        m
        for m in manifests
        if m["kind"] in WORKLOADS
        and m["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    (only_container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(only_container)


def settings(manifests: list[Manifest], component: str) -> dict[str, str]:
    """Return the component's own variables with their values (a pod's field as its path)."""

    def value(each: dict[str, Any]) -> str:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            return f"{source['secretKeyRef']['name']}/{source['secretKeyRef']['key']}"
        return str(each.get("value") or source["fieldRef"]["fieldPath"])

    return {
        each["name"]: value(each)
        for each in container(manifests, component)["env"]
        if each["name"].startswith("R1_")
    }


def test_the_operator_parses_its_chart_settings(render: Callable[..., list[Manifest]]) -> None:
    environment = settings(
        render("watchNamespaces={team-a,team-b}", "serviceMonitor.models=false"), "operator"
    )
    loaded = OperatorSettings.load(environment=environment)
    unknown = {name for name in environment if not hasattr(loaded, name[3:].lower())}
    assert unknown == set()
    assert loaded.namespaces == ("team-a", "team-b")
    assert loaded.own_namespace == "r1-system"
    assert loaded.lease_name == "r1-operator"
    assert loaded.gateway_service == "r1-system/r1-gateway"
    assert loaded.forecaster_url == "http://r1-forecaster.r1-system.svc:8082"
    assert loaded.prometheus_url == "http://prometheus-operated.monitoring.svc:9090"
    assert loaded.default_model == "demo"
    assert loaded.default_image == "registry.example/r1/r1-runtime:0.1.0"
    assert loaded.default_gpu_image == "registry.example/r1/r1-runtime-cuda:0.1.0"
    assert loaded.service_monitors is False
    assert loaded.backtest_image == "registry.example/r1/r1-backtest:0.1.0"


def test_site_settings_reach_backtest_pods(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render(
        "imagePullSecrets[0].name=registry",
        "backtest.image.tag=1.2.3",
        "backtest.nodeSelector.pool=cpu",
        "backtest.podAnnotations.note=kept",
        "backtest.extraEnv[0].name=PYTHONPATH",
        "backtest.extraEnv[0].value=/packages",
        "backtest.extraVolumes[0].name=packages",
        "backtest.extraVolumes[0].persistentVolumeClaim.claimName=packages",
        "backtest.extraVolumeMounts[0].name=packages",
        "backtest.extraVolumeMounts[0].mountPath=/packages",
    )
    loaded = OperatorSettings.load(environment=settings(manifests, "operator"))
    template = json.loads(loaded.backtest_template)
    site = BacktestSite("r1-system", loaded.backtest_image, loaded.prometheus_url, template)
    inference = parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "production-r1"},
            "spec": {"autoscaling": {"maxReplicas": 4, "metrics": [RATE]}},
        }
    )
    backtest = R1Backtest("any", "default", BacktestSpec("production-r1"), uid="1")
    job = build_job(BacktestObservation(backtest, site, inference=inference), inference)
    kubernetes_validate.validate(job, "1.34", strict=True)
    pod = job["spec"]["template"]
    (made,) = pod["spec"]["containers"]
    assert made["image"] == "registry.example/r1/r1-backtest:1.2.3"
    assert made["imagePullPolicy"] == "IfNotPresent"
    assert made["resources"]["limits"] == {"memory": "2Gi"}
    assert {"name": "PYTHONPATH", "value": "/packages"} in made["env"]
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in made["env"]
    assert {"tmp", "tried", "packages"} == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert pod["spec"]["nodeSelector"] == {"pool": "cpu"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["metadata"]["annotations"]["note"] == "kept"


def test_site_settings_reach_model_pods(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render(
        "imagePullSecrets[0].name=registry",
        "modelPods.template.metadata.labels.team=search",
        "modelPods.template.spec.imagePullSecrets[0].name=models",
        "modelPods.template.spec.tolerations[0].key=dedicated",
        "modelPods.template.spec.tolerations[0].operator=Exists",
        "modelPods.template.spec.securityContext.runAsUser=1000680000",
        "modelPods.template.spec.containers[0].name=engine",
        "modelPods.template.spec.containers[0].env[0].name=SSL_CERT_FILE",
        "modelPods.template.spec.containers[0].env[0].value=/ca/ca.crt",
    )
    loaded = OperatorSettings.load(environment=settings(manifests, "operator"))
    check_site_templates(loaded)
    site = json.loads(loaded.model_pod_template)
    inference = parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "production-r1", "namespace": "team"},
            "spec": {"template": {"spec": {"imagePullSecrets": [{"name": "own"}]}}},
        }
    )
    made = plan_children(inference, Defaults(loaded.default_image, template=site), 1)[-1]
    kubernetes_validate.validate(made, "1.34", strict=True)
    pod = made["spec"]["template"]
    secrets = [each["name"] for each in pod["spec"]["imagePullSecrets"]]
    assert secrets == ["registry", "models", "own"]
    assert pod["metadata"]["labels"]["team"] == "search"
    assert pod["spec"]["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert pod["spec"]["securityContext"]["runAsUser"] == 1000680000
    (engine,) = pod["spec"]["containers"]
    assert {"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"} in engine["env"]


def test_default_values_do_not_change_model_pods(render: Callable[..., list[Manifest]]) -> None:
    loaded = OperatorSettings.load(environment=settings(render(), "operator"))
    check_site_templates(loaded)
    assert json.loads(loaded.model_pod_template) == {}


def test_service_monitors_of_models_get_the_labels_and_interval_of_the_others(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render(
        "serviceMonitor.labels.release=prometheus",
        "serviceMonitor.interval=60s",
    )
    loaded = OperatorSettings.load(environment=settings(manifests, "operator"))
    assert json.loads(loaded.service_monitor_labels) == {"release": "prometheus"}
    assert loaded.service_monitor_interval == "60s"


def test_without_a_forecaster_the_operator_has_no_forecaster_url(
    render: Callable[..., list[Manifest]],
) -> None:
    environment = settings(render("forecaster.enabled=false"), "operator")
    assert OperatorSettings.load(environment=environment).forecaster_url == ""


def test_operator_ports_match_the_chart(render: Callable[..., list[Manifest]]) -> None:
    (port,) = container(render(), "operator")["ports"]
    assert port["containerPort"] == OperatorSettings.load(environment={}).http_port


def test_the_gateway_parses_its_chart_settings(render: Callable[..., list[Manifest]]) -> None:
    environment = settings(
        render(
            "watchNamespaces={team-a}",
            "gateway.apiKeysSecret.name=clients",
            "gateway.redisSecret.name=counters",
            "gateway.adminTokenSecret.name=admin",
            "gateway.accessLog=true",
            "gateway.drainSeconds=60",
            "gateway.logLevel=debug",
        ),
        "gateway",
    )
    options = parse_options([], environment)
    unknown = {
        name for name in environment if not hasattr(options, name.removeprefix(GATEWAY).lower())
    }
    assert unknown == set()
    assert options.watch_namespace == "team-a"
    assert options.gateway_service == "r1-system/r1-gateway"
    assert options.keys_file == Path("/etc/r1/api-keys/keys.json")
    assert options.redis == "counters/url"
    assert options.admin_token_file == Path("/etc/r1/admin-token/token")
    assert options.access_log
    assert options.drain_seconds == 60
    assert options.log_level == "debug"


@pytest.mark.parametrize("settings_given", [(), ("watchNamespaces={team-a,team-b}",)])
def test_a_gateway_of_many_namespaces_watches_all(
    render: Callable[..., list[Manifest]], settings_given: tuple[str, ...]
) -> None:
    options = parse_options([], settings(render(*settings_given), "gateway"))
    assert options.watch_namespace is None


def test_the_grace_period_covers_linger_and_drain(render: Callable[..., list[Manifest]]) -> None:
    manifests = render("gateway.drainSeconds=300")
    options = parse_options([], settings(manifests, "gateway"))
    (pod,) = [
        m["spec"]["template"]["spec"]
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) == ("Deployment", "r1-gateway")
    ]
    wanted = options.linger_seconds + options.drain_seconds
    assert pod["terminationGracePeriodSeconds"] >= wanted + 10


def test_gateway_ports_match_the_chart(render: Callable[..., list[Manifest]]) -> None:
    options = parse_options([], {})
    ports = {
        port["name"]: port["containerPort"] for port in container(render(), "gateway")["ports"]
    }
    assert ports == {"http": options.port, "admin": options.admin_port}


def test_the_forecaster_parses_its_chart_settings(
    render: Callable[..., list[Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render("prometheus.url=http://prometheus:9090", "forecaster.logLevel=debug")
    for name, value in settings(manifests, "forecaster").items():
        assert name in FORECASTER_READS
        monkeypatch.setenv(name, value)
    made = container(manifests, "forecaster")
    options = r1_forecasting.options.parse_options(made["args"])
    assert options.prometheus_url == "http://prometheus:9090"
    assert options.log_level == "debug"
    assert [port["containerPort"] for port in made["ports"]] == [int(options.port)]


def test_forecaster_ports_match_the_chart(
    render: Callable[..., list[Manifest]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = render(
        "forecaster.keda.enabled=true",
        "forecaster.externalMetrics.enabled=true",
        "forecaster.published[0].namespace=shop",
        "forecaster.published[0].name=orders",
        "forecaster.published[0].query=sum(rate(orders_total[2m]))",
        "forecaster.published[0].leadSeconds=90",
    )
    (listed,) = [
        m["data"]
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) == ("ConfigMap", "r1-forecaster-published")
    ]
    environment = settings(manifests, "forecaster")
    assert environment.keys() <= FORECASTER_READS
    folder, _, file = environment["R1_FORECASTER_PUBLISHED"].rpartition("/")
    assert listed.keys() == {file}
    (tmp_path / file).write_text(listed[file])
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace(folder, str(tmp_path)))

    made = container(manifests, "forecaster")
    options = r1_forecasting.options.parse_options(made["args"])
    ports = {port["name"]: port["containerPort"] for port in made["ports"]}
    assert ports == {
        "http": int(options.port),
        "keda": options.keda_port,
        "ext-metrics": options.external_metrics_port,
    }
    assert options.published.catalogue.keys() == {("shop", "orders")}
    mounted = {each["mountPath"] for each in made["volumeMounts"]}
    assert {str(options.external_metrics_tls), folder} <= mounted


def test_the_token_of_the_admin_port_reaches_gateway_operator_and_service_monitor(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render("gateway.adminTokenSecret.name=admin", "gateway.adminTokenSecret.key=t")
    loaded = OperatorSettings.load(environment=settings(manifests, "operator"))
    assert loaded.gateway_token_file == "/etc/r1/admin-token/t"
    for component in ("operator", "gateway"):
        mounts = container(manifests, component)["volumeMounts"]
        assert {
            "name": "admin-token",
            "mountPath": "/etc/r1/admin-token",
            "readOnly": True,
        } in mounts
    credentials = [
        endpoint["authorization"]["credentials"]
        for manifest in manifests
        if manifest["kind"] == "ServiceMonitor"
        for endpoint in manifest["spec"]["endpoints"]
        if "authorization" in endpoint
    ]
    assert credentials in ([], [{"name": "admin", "key": "t"}])
