"""The APIService of external metrics: its Service and its certificate."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_cluster.commands import run
from r1_forecasting.published.front_proxy import common_name
from r1_forecasting.published.publication import FIELDS

Manifest = dict[str, Any]
ON = "forecaster.externalMetrics.enabled=true"


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return manifest


def service_of(manifests: list[Manifest]) -> dict[str, Any]:
    api = only(manifests, "APIService", "v1beta1.external.metrics.k8s.io")
    reference: dict[str, Any] = api["spec"]["service"]
    return reference


@pytest.mark.parametrize("settings", [(), ("forecaster.keda.enabled=true",)])
def test_the_external_metrics_api_is_opt_in(
    render: Callable[..., list[Manifest]], settings: tuple[str, ...]
) -> None:
    assert not [m for m in render(*settings) if m["kind"] in ("APIService", "Secret")]


def test_without_a_forecaster_there_is_no_external_metrics_api(
    render: Callable[..., list[Manifest]],
) -> None:
    assert not [m for m in render(ON, "forecaster.enabled=false") if m["kind"] == "APIService"]


def test_the_api_service_targets_the_tls_port(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render(ON)
    reference = service_of(manifests)
    service = only(manifests, "Service", reference["name"])
    assert service["metadata"]["namespace"] == reference["namespace"]
    ports = {port["port"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert ports[reference["port"]] == "ext-metrics"


def test_the_certificate_matches_the_service_and_the_ca_bundle(
    render: Callable[..., list[Manifest]], tmp_path: Path
) -> None:
    manifests = render(ON)
    reference = service_of(manifests)
    secret = only(manifests, "Secret", "r1-forecaster-tls")
    for name, text in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(text))
    api = only(manifests, "APIService", "v1beta1.external.metrics.k8s.io")
    assert api["spec"]["caBundle"] == secret["data"]["ca.crt"]

    host = f"{reference['name']}.{reference['namespace']}.svc"
    check = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), "-verify_hostname", host]
    run([*check, str(tmp_path / "tls.crt")], "the certificate is not believed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")  # they belong together
    context.load_verify_locations(tmp_path / "ca.crt")
    assert [common_name(each) for each in context.get_ca_certs()] == ["r1-forecaster-authority"]


def test_the_forecaster_pod_mounts_the_certificate(render: Callable[..., list[Manifest]]) -> None:
    def shown(*settings: str) -> str:
        deployment = only(render(ON, *settings), "Deployment", "r1-forecaster")
        (volume,) = [
            each
            for each in deployment["spec"]["template"]["spec"]["volumes"]
            if each["name"] == "external-metrics"
        ]
        return str(volume["secret"]["secretName"])

    assert shown() == "r1-forecaster-tls"
    own = "forecaster.externalMetrics.tlsSecret=mine", "forecaster.externalMetrics.caBundle=UEVN"
    assert shown(*own) == "mine"
    manifests = render(ON, *own)
    assert not [m for m in manifests if m["kind"] == "Secret"]
    api = only(manifests, "APIService", "v1beta1.external.metrics.k8s.io")
    assert api["spec"]["caBundle"] == "UEVN"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ([ON, "forecaster.externalMetrics.tlsSecret=mine"], "caBundle is empty"),
        (
            [
                "forecaster.published[0].namespace=shop",
                "forecaster.published[0].name=orders",
                "forecaster.published[0].query=orders",
                "forecaster.published[0].leadSeconds=60",
            ],
            "forecaster.published has no effect",
        ),
        (
            [
                "forecaster.externalMetrics.enabled=true",
                *(
                    f"forecaster.published[{index}].{field}"
                    for index in (0, 1)
                    for field in ("namespace=shop", "name=orders", "query=q", "leadSeconds=60")
                ),
            ],
            "forecaster.published has shop/orders twice",
        ),
    ],
)
def test_incomplete_external_metrics_values_are_rejected(
    helm: Callable[..., Any], chart: Path, settings: list[str], error: str
) -> None:
    settings = [*settings, "imageRegistry=registry.example"]
    flags = [argument for setting in settings for argument in ("--set", setting)]
    done = helm("template", "r1", str(chart), "--kube-version", "1.34.4", *flags)
    assert done.returncode != 0
    assert error in done.stderr


def test_the_schema_knows_the_fields_that_the_forecaster_knows(chart: Path) -> None:
    schema = yaml.safe_load((chart / "values.schema.json").read_text())
    assert set(schema["$defs"]["publication"]["properties"]) == FIELDS
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert values["forecaster"]["published"] == []
