"""Settings of a site for all resources: pod template layers and ServiceMonitor labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children

SITE = {
    "metadata": {"labels": {"cost-center": "42"}, "annotations": {"prometheus.io/scrape": "false"}},
    "spec": {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 600,
        "containers": [
            {
                "name": "engine",
                "env": [
                    {"name": "HOME", "value": "/home"},
                    {"name": "SSL_CERT_FILE", "value": "/ca"},
                ],
                "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            }
        ],
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    },
}


def pod_of(resource: Any, defaults: Defaults) -> dict[str, Any]:
    made: dict[str, Any] = plan_children(resource, defaults, 1)[-1]["spec"]["template"]
    return made


def test_the_site_s_template_goes_over_the_operator_s_pod_and_under_the_resource_s(
    resource: Any, defaults: Defaults
) -> None:
    own = {
        "spec": {
            "imagePullSecrets": [{"name": "team"}],
            "nodeSelector": {"pool": "h200"},
            "containers": [
                {"name": "engine", "env": [{"name": "SSL_CERT_FILE", "value": "/mine"}]}
            ],
        }
    }
    pod = pod_of(
        resource({"template": own, "resources": {"limits": {"nvidia.com/gpu": 1}}}),
        replace(defaults, template=SITE),
    )
    spec, engine = pod["spec"], pod["spec"]["containers"][0]
    env = {each["name"]: each["value"] for each in engine["env"]}
    assert env == {"HOME": "/home", "USER": "engine", "SSL_CERT_FILE": "/mine"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "team"}]
    assert spec["nodeSelector"] == {"pool": "h200"}
    assert [each["key"] for each in spec["tolerations"]] == ["nvidia.com/gpu", "dedicated"]
    assert spec["terminationGracePeriodSeconds"] == 600
    assert {each["name"] for each in spec["volumes"]} == {"tmp", "ca"}
    assert {each["mountPath"] for each in engine["volumeMounts"]} == {"/tmp", "/ca"}
    assert pod["metadata"]["labels"]["cost-center"] == "42"
    assert pod["metadata"]["annotations"]["prometheus.io/scrape"] == "false"


def test_a_change_of_the_site_s_template_rolls_and_takes_the_newest_image(
    resource: Any, defaults: Defaults
) -> None:
    """A setting of the site affects pods, as the owner's does (record 0051)."""
    old = plan_children(resource(), defaults, 1)[-1]
    upgraded = replace(defaults, runtime_image="registry.example/runtime:2")
    assert plan_children(resource(), upgraded, 1, deployment=old)[-1] == old
    changed = plan_children(resource(), replace(upgraded, template=SITE), 1, deployment=old)[-1]
    engine = changed["spec"]["template"]["spec"]["containers"][0]
    assert engine["image"] == "registry.example/runtime:2"
    settled = plan_children(resource(), replace(upgraded, template=SITE), 1, deployment=changed)[-1]
    assert settled == changed


def monitor_of(resource: Any, defaults: Defaults) -> dict[str, Any]:
    children = plan_children(resource, defaults, 1, service_monitors=True)
    (monitor,) = [each for each in children if each["kind"] == "ServiceMonitor"]
    return monitor


def test_service_monitors_get_the_site_s_labels_and_interval(
    resource: Any, defaults: Defaults
) -> None:
    site = replace(defaults, monitor_labels={"release": "prometheus"}, monitor_interval="60s")
    made = monitor_of(resource(), site)
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["spec"]["endpoints"][0]["interval"] == "60s"


def test_a_label_of_the_site_does_not_replace_one_by_which_children_are_found(
    resource: Any, defaults: Defaults
) -> None:
    site = replace(defaults, monitor_labels={"deepseek.ai/r1inference": "another"})
    assert monitor_of(resource(), site) == monitor_of(resource(), defaults)


def test_service_monitors_roll_no_pods(resource: Any, defaults: Defaults) -> None:
    site = replace(defaults, monitor_labels={"release": "x"}, monitor_interval="60s")
    assert plan_children(resource(), site, 1)[-1] == plan_children(resource(), defaults, 1)[-1]
