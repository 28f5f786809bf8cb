"""One Prometheus client configuration for operator, forecaster and the Jobs of R1Backtests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from r1_common.prometheus.client_config import PrometheusConfig, load_config
from r1_forecasting.options import parse_options
from r1_operator.api.backtest.spec import BacktestSpec, R1Backtest
from r1_operator.api.v1 import parse
from r1_operator.plan.backtest.job import build_job
from r1_operator.plan.backtest.observed import BacktestObservation, BacktestSite
from r1_operator.settings import OperatorSettings

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
FOLDER = Path("/etc/r1/prometheus")
AUTH = (
    "prometheus.auth.secretName=prometheus-client",
    "prometheus.auth.bearerTokenKey=token",
    "prometheus.auth.caKey=ca.crt",
    "prometheus.auth.headerKeys.X-Api-Key=api-key",
    "prometheus.headers.X-Scope-OrgID=team-a",
    "prometheus.matchers.cluster=a",
    "serviceMonitor.interval=1m",
)
INFERENCE = parse(
    {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": "production-r1"},
        "spec": {
            "autoscaling": {
                "maxReplicas": 4,
                "metrics": [{"type": "RequestsPerSecond", "target": 5}],
            }
        },
    }
)


def pod(manifests: list[Manifest], component: str) -> Manifest:
    (pod_spec,) = (
        one["spec"]["template"]["spec"]
        for one in manifests
        if one["kind"] in ("Deployment", "StatefulSet")
        and one["metadata"]["name"] == f"r1-{component}"
    )
    spec: Manifest = pod_spec
    return spec


def environment(pod: Manifest) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}


def settings(manifests: list[Manifest]) -> OperatorSettings:
    return OperatorSettings.load(environment=environment(pod(manifests, "operator")))


def job_pod(manifests: list[Manifest]) -> Manifest:
    loaded = settings(manifests)
    site = BacktestSite(
        "r1-system",
        loaded.backtest_image,
        loaded.prometheus_url,
        json.loads(loaded.backtest_template),
        prometheus_client=loaded.prometheus_client,
    )
    backtest = R1Backtest("any", "default", BacktestSpec("production-r1"), uid="1")
    job = build_job(BacktestObservation(backtest, site, inference=INFERENCE), INFERENCE)
    kubernetes_validate.validate(job, "1.34", strict=True)
    spec: Manifest = job["spec"]["template"]["spec"]
    return spec


def configurations(render: Render, *given: str) -> list[PrometheusConfig]:
    """The configurations of forecaster, operator and backtest Job, parsed by their own code."""
    manifests = render(*given)
    forecaster = environment(pod(manifests, "forecaster"))
    url = "http://prometheus:9090"
    return [
        parse_options(
            ["--prometheus-client", forecaster["R1_FORECASTER_PROMETHEUS_CLIENT"]]
        ).prometheus,
        settings(manifests).prometheus(),
        load_config(url, environment(job_pod(manifests))["R1_PROMETHEUS_CLIENT"]),
    ]


def test_all_components_read_the_same_prometheus_configuration(render: Render) -> None:
    for configuration in configurations(render, *AUTH):
        assert configuration.bearer_token_file == FOLDER / "token"
        assert configuration.ca_file == FOLDER / "ca.crt"
        assert configuration.header_files == (("X-Api-Key", FOLDER / "api-key"),)
        assert configuration.headers == (("X-Scope-OrgID", "team-a"),)
        assert configuration.matchers == (("cluster", "a"),)
        assert configuration.rate_seconds(60) == 240


def test_defaults_have_no_credentials_and_one_minute_rates(render: Render) -> None:
    for configuration in configurations(render):
        assert configuration.bearer_token_file is None
        assert configuration.matchers == ()
        assert configuration.rate_seconds(60) == 60
    assert "prometheus-auth" not in json.dumps(render())


def test_all_components_mount_the_configured_prometheus_keys(render: Render) -> None:
    manifests = render(*AUTH)
    for spec in (pod(manifests, "operator"), pod(manifests, "forecaster"), job_pod(manifests)):
        (volume,) = (one for one in spec["volumes"] if one["name"] == "prometheus-auth")
        assert volume["secret"]["secretName"] == "prometheus-client"
        assert {one["key"] for one in volume["secret"]["items"]} == {"token", "ca.crt", "api-key"}
        mounts = spec["containers"][0]["volumeMounts"]
        # A whole folder: what is mounted by subPath never changes while a pod runs.
        assert {
            "name": "prometheus-auth",
            "mountPath": str(FOLDER),
            "readOnly": True,
        } in mounts
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["prometheus.auth.bearerTokenKey=token"], "prometheus.auth.secretName"),
        (["prometheus.auth.secretName=a"], "set a key of the Secret"),
        (
            ["prometheus.auth.secretName=a", "prometheus.auth.usernameKey=user"],
            "set both usernameKey and passwordKey",
        ),
        (
            ["prometheus.auth.secretName=a", "prometheus.auth.keyKey=tls.key"],
            "set both certKey and keyKey",
        ),
    ],
)
def test_an_incomplete_prometheus_secret_is_rejected(
    helm: Callable[..., Any], chart: Path, given: list[str], words: str
) -> None:
    flags = [argument for one in (*given, "imageRegistry=r.example") for argument in ("--set", one)]
    done = helm("template", "r1", str(chart), "--kube-version", "1.34.4", *flags)
    assert done.returncode != 0
    assert words in done.stderr


def pod_annotations(manifests: list[Manifest], component: str) -> dict[str, str]:
    (template,) = (
        one["spec"]["template"]
        for one in manifests
        if one["kind"] in ("Deployment", "StatefulSet")
        and one["metadata"]["name"] == f"r1-{component}"
    )
    annotations: dict[str, str] = template["metadata"].get("annotations", {})
    return annotations


@pytest.mark.parametrize("component", ["operator", "gateway", "forecaster"])
def test_pods_are_scraped_by_annotations_or_by_service_monitors(
    render: Render, component: str
) -> None:
    assert pod_annotations(render(), component)["prometheus.io/scrape"] == "true"
    assert pod_annotations(render("serviceMonitor.enabled=true"), component) == {}


def test_annotations_of_the_site_replace_those_of_the_chart(render: Render) -> None:
    annotations = pod_annotations(
        render('gateway.podAnnotations.prometheus\\.io/scrape="false"'), "gateway"
    )
    assert annotations["prometheus.io/scrape"] == '"false"'
    assert annotations["prometheus.io/port"] == "8081"


def test_dashboards_filter_by_the_matchers(render: Render) -> None:
    for given, filters in (
        ((), []),
        (AUTH, [{"key": "cluster", "operator": "=", "value": "a"}]),
    ):
        boards = [
            json.loads(text)
            for one in render(*given)
            if one["kind"] == "ConfigMap" and "dashboard" in one["metadata"]["name"]
            for text in one["data"].values()
        ]
        assert len(boards) == 3
        for board in boards:
            (adhoc,) = (v for v in board["templating"]["list"] if v["type"] == "adhoc")
            assert adhoc["filters"] == filters
