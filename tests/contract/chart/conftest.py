"""The chart, rendered by the pinned Helm. A rendering takes 0.1 s and is cached."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_cluster.programs.binaries import ensure_binaries

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "r1-operator"
KUBERNETES = "1.34.4"
REGISTRY = "registry.example/r1"
PREFERENCE = "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]"

VALUE_SETS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "two teams": ("watchNamespaces={team-a,team-b}",),
    "no forecaster": ("forecaster.enabled=false",),
    "bare": (
        "forecaster.enabled=false",
        "networkPolicy.enabled=false",
        "podDisruptionBudget.enabled=false",
        "dashboards.enabled=false",
        "crds.enabled=false",
    ),
    "three shards": (
        "forecaster.shards=3",
        "forecaster.keda.enabled=true",
        "serviceMonitor.enabled=true",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    ),
    "own certificate": (
        "forecaster.externalMetrics.enabled=true",
        "forecaster.externalMetrics.tlsSecret=from-cert-manager",
        "forecaster.externalMetrics.caBundle=UEVN",
    ),
    "everything": (
        "namePrefix=serving",
        "operator.readNodes=true",
        "forecaster.keda.enabled=true",
        "forecaster.externalMetrics.enabled=true",
        *(
            f"forecaster.published[0].{field}"
            for field in (
                "namespace=shop",
                "name=orders",
                "query=sum(rate(orders_total[2m]))",
                "leadSeconds=90",
                "stepSeconds=15",
                "seasonSeconds=86400",
                "historySeconds=864000",
                "quantilePercent=95",
                "activation=Always",
                "weekly=true",
            )
        ),
        "networkPolicy.kedaFrom[0].namespaceSelector.matchLabels.team=keda",
        "imagePullSecrets[0].name=registry",
        "modelPods.template.spec.tolerations[0].key=dedicated",
        "modelPods.template.spec.tolerations[0].operator=Exists",
        "gateway.replicas=3",
        "gateway.apiKeysSecret.name=clients",
        "gateway.publicService.enabled=true",
        "gateway.publicService.annotations.example=yes",
        "networkPolicy.clientsFrom[0].ipBlock.cidr=10.0.0.0/8",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
        "networkPolicy.apiServerTo[0].ipBlock.cidr=10.1.0.0/16",
        "networkPolicy.prometheusTo[0].podSelector.matchLabels.app=prometheus",
        "prometheus.matchers.cluster=a",
        "prometheus.headers.X-Scope-OrgID=team-a",
        "prometheus.auth.secretName=prometheus-client",
        *(
            f"prometheus.auth.{key}"
            for key in (
                "usernameKey=user",
                "passwordKey=password",
                "headerKeys.X-Api-Key=api-key",
                "caKey=ca.crt",
                "certKey=tls.crt",
                "keyKey=tls.key",
            )
        ),
        "serviceMonitor.enabled=true",
        "alerts.enabled=true",
        "alerts.labels.release=prometheus",
        "serviceMonitor.labels.release=prometheus",
        "dashboards.annotations.grafana_folder=R1",
        *(
            f"{component}.{setting}"
            for component in ("operator", "gateway", "forecaster", "backtest")
            for setting in (
                "image.tag=1.2.3",
                "priorityClassName=high",
                "nodeSelector.pool=cpu",
                "tolerations[0].key=dedicated",
                "tolerations[0].operator=Exists",
                "podAnnotations.note=kept",
                f"affinity.{PREFERENCE}.weight=1",
                f"affinity.{PREFERENCE}.preference.matchExpressions[0].key=zone",
                f"affinity.{PREFERENCE}.preference.matchExpressions[0].operator=Exists",
                "extraEnv[0].name=PYTHONPATH",
                "extraEnv[0].value=/packages",
                "extraVolumes[0].name=packages",
                "extraVolumes[0].persistentVolumeClaim.claimName=packages",
                "extraVolumeMounts[0].name=packages",
                "extraVolumeMounts[0].mountPath=/packages",
                "extraVolumeMounts[0].readOnly=true",
            )
        ),
    ),
}


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the pinned Helm with the given arguments, without a cluster."""
    binary = ensure_binaries(["helm"])["helm"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture(scope="session")
def render(
    helm: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., list[dict[str, Any]]]:
    """Return the manifests of the chart under `--set` settings (strings)."""

    @cache
    def rendered(settings: tuple[str, ...], apis: tuple[str, ...]) -> str:
        arguments = ["template", "r1", str(CHART), "-n", "r1-system", "--kube-version", KUBERNETES]
        arguments += ["--set", f"imageRegistry={REGISTRY}"]
        for setting in settings:
            # --set-string where a value is meant as text: annotations, labels and images' tags.
            text = setting.split("=")[0].rpartition(".")[2] in {"tag", "example", "note"}
            arguments += ["--set-string" if text else "--set", setting]
        for api in apis:
            arguments += ["--api-versions", api]
        done = helm(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(*settings: str, apis: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        documents = yaml.load_all(rendered(settings, apis), Loader=yaml.CSafeLoader)
        return [document for document in documents if document]

    return load


@pytest.fixture(params=list(VALUE_SETS), scope="session")
def manifests(
    request: pytest.FixtureRequest, render: Callable[..., list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The chart under each of the value sets."""
    return render(*VALUE_SETS[request.param], apis=("monitoring.coreos.com/v1",))


@pytest.fixture(scope="session")
def distinct_manifests(render: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each distinct object of all value sets, for checks of single objects."""
    distinct = {
        json.dumps(manifest, sort_keys=True, default=str): manifest
        for settings in VALUE_SETS.values()
        for manifest in render(*settings, apis=("monitoring.coreos.com/v1",))
    }
    return list(distinct.values())
