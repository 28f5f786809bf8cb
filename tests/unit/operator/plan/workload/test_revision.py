"""Pods roll on a change of the spec and not on an upgrade of the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from r1_operator.api.serving import ModelSource
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children
from r1_operator.plan.workload import revision as revisions
from r1_operator.plan.workload.revision import HASH_VERSION, is_applied, revision

VERBATIM = {
    "replicas": 4,
    "resources": {
        "limits": {"nvidia.com/gpu": 1},
        "requests": {"cpu": "2", "memory": "8Gi"},
    },
    "autoscaling": {
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": [{"type": "RequestsPerSecond", "target": 1000}],
    },
}


def image(deployment: dict[str, Any]) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def test_the_hash_is_pinned(resource: Any, defaults: Defaults) -> None:
    """A change of the hash without a new HASH_VERSION rolls every model pod on upgrade."""
    assert (HASH_VERSION, revision(resource(VERBATIM), defaults)) == ("1", "f8c8bc30b3fbf240")


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 9},
        {"autoscaling": None},
        {"priority": {"defaultClass": "Q1"}},
        {"rollout": {"maxSurge": 3}},
    ],
)
def test_settings_that_do_not_affect_pods_are_not_hashed(
    change: dict[str, Any], resource: Any, defaults: Defaults
) -> None:
    before, after = resource(VERBATIM), resource({**VERBATIM, **change})
    assert revision(before, defaults) == revision(after, defaults)


def test_spelling_out_a_default_changes_nothing(resource: Any, defaults: Defaults) -> None:
    spelled = {**VERBATIM, "runtime": {"dtype": "Auto", "maxConcurrentSequences": 8}}
    assert revision(resource(spelled), defaults) == revision(resource(VERBATIM), defaults)


def test_an_upgrade_keeps_the_image_until_the_owner_changes_something(
    resource: Any, defaults: Defaults
) -> None:
    old = plan_children(resource(VERBATIM), defaults, 4)[-1]
    upgraded = replace(defaults, runtime_image="registry.example/runtime:2")
    child = plan_children(resource(VERBATIM), upgraded, 4, deployment=old)[-1]
    assert child == old

    changed = resource({**VERBATIM, "runtime": {"maxConcurrentSequences": 9}})
    moved = plan_children(changed, upgraded, 4, deployment=old)[-1]
    assert image(moved) == "registry.example/runtime:2"


def test_the_owner_can_ask_for_the_newest(resource: Any, defaults: Defaults) -> None:
    old = plan_children(resource(VERBATIM), defaults, 4)[-1]
    upgraded = replace(defaults, runtime_image="registry.example/runtime:2")
    refreshed = resource(VERBATIM, annotations={"deepseek.ai/refresh": "2027-01-15"})
    moved = plan_children(refreshed, upgraded, 4, deployment=old)[-1]
    assert image(moved) == "registry.example/runtime:2"
    assert plan_children(refreshed, upgraded, 4, deployment=moved)[-1] == moved


def test_a_new_way_to_hash_rolls_nothing(
    resource: Any, defaults: Defaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = plan_children(resource(VERBATIM), defaults, 4)[-1]
    monkeypatch.setattr(revisions, "HASH_VERSION", "2")
    upgraded = replace(defaults, runtime_image="registry.example/runtime:2")
    child = plan_children(resource(VERBATIM), upgraded, 4, deployment=old)[-1]
    assert child["spec"] == old["spec"]
    assert child["metadata"]["annotations"]["deepseek.ai/revision-version"] == "2"


def test_a_site_that_changes_its_default_model_rolls(resource: Any, defaults: Defaults) -> None:
    old = plan_children(resource(VERBATIM), defaults, 4)[-1]
    site = replace(defaults, model_source=ModelSource(path="/weights"))
    assert not is_applied(resource(VERBATIM), site, old)
    command = plan_children(resource(VERBATIM), site, 4, deployment=old)[-1]["spec"]["template"][
        "spec"
    ]["containers"][0]["command"]
    assert "/weights" in command


def test_an_unknown_layout_rolls_to_a_known_one(resource: Any, defaults: Defaults) -> None:
    old = plan_children(resource(VERBATIM), defaults, 4)[-1]
    old["metadata"]["annotations"]["deepseek.ai/renderer"] = "99"
    old["metadata"]["annotations"]["deepseek.ai/runtime-image"] = "registry.example/runtime:0"
    assert image(plan_children(resource(VERBATIM), defaults, 4, deployment=old)[-1]) == (
        "registry.example/runtime:1"
    )
