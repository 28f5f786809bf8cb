"""Plans of arbitrary resources: deterministic, valid, independent of earlier ones."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import kubernetes_validate
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from r1_operator.api.fields.declare import to_json
from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.names import ConditionReason, ConditionType
from r1_operator.api.v1 import parse
from r1_operator.plan.container_state import Container, Ended, Role
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.resource_plan import plan
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.reasons import DecisionMode
from r1_operator.plan.scaling.reasons import DecisionReason as Why
from r1_operator.plan.snapshot import Defaults, Observed, Pod
from r1_operator.plan.status.resource_status import plan_status
from r1_operator.plan.workload import plan_children

DEFAULTS = Defaults(runtime_image="registry.example/runtime:1")
NOW = 1_800_000_000.0
SLOWLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
amounts = st.sampled_from([1, "2", "500m", "8Gi", "1.5Gi", "1e3"])
sources = st.one_of(
    st.just({"bundled": "demo"}),
    st.builds(lambda name: {"path": f"/{name}"}, names),
    st.builds(lambda name: {"persistentVolumeClaim": {"claimName": name}}, names),
)
engines = st.one_of(
    st.fixed_dictionaries({}, optional={"image": names, "args": st.lists(names, max_size=3)}),
    st.fixed_dictionaries({"type": st.sampled_from(["vLLM", "SGLang"]), "image": names}),
)
autoscalings = st.fixed_dictionaries(
    {
        "maxReplicas": st.integers(5, 50),
        "metrics": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["RequestsPerSecond", "Concurrency", "QueueLength"]),
                    "target": amounts,
                }
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda metric: str(metric["type"]),
        ),
    },
    optional={"minReplicas": st.integers(0, 5)},
)
templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": st.dictionaries(names, names, max_size=2)}
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "nodeSelector": st.dictionaries(names, names, max_size=2),
                "priorityClassName": names,
                "containers": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.just("sidecar"), "image": names},
                        optional={"env": st.just([{"name": "A", "value": "b"}])},
                    ),
                    max_size=1,
                ),
            },
        ),
    },
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 10),
        "model": st.fixed_dictionaries(
            {},
            optional={"source": sources, "aliases": st.lists(names, unique=True, max_size=3)},
        ),
        "engine": engines,
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "limits": st.dictionaries(
                    st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]), st.integers(0, 2)
                ),
                "requests": st.dictionaries(st.sampled_from(["cpu", "memory"]), amounts),
            },
        ),
        "autoscaling": autoscalings,
        "rollout": st.fixed_dictionaries(
            {}, optional={"maxSurge": st.integers(1, 5), "drainSeconds": st.integers(0, 3600)}
        ),
        "template": templates,
    },
)


def resource(spec: dict[str, Any], **more: Any) -> Any:
    metadata = {"name": "r1", "namespace": "team", "uid": "u", "generation": 1}
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": metadata}
    return parse({**manifest, "spec": spec, **more}, strict=True)


def children_of(spec: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    try:
        return plan_children(resource(spec), DEFAULTS, 2, **more)
    except Unplannable as error:
        refused = (ConditionReason.MODEL_SOURCE_UNUSABLE, ConditionReason.TOO_MANY_ACCELERATORS)
        assume(error.problem.reason not in refused)
        raise


def stored(child: dict[str, Any]) -> dict[str, Any]:
    """The child as it comes back through JSON."""
    document: dict[str, Any] = json.loads(json.dumps(child))
    return document


@SLOWLY
@given(specs)
def test_equal_inputs_make_equal_children(spec: dict[str, Any]) -> None:
    assert children_of(spec) == children_of(copy.deepcopy(spec))


@SLOWLY
@given(specs)
def test_children_are_valid_kubernetes(spec: dict[str, Any]) -> None:
    for child in children_of(spec):
        kubernetes_validate.validate(stored(child), "1.34", strict=True)


@SLOWLY
@given(specs)
def test_a_settled_deployment_asks_for_nothing_new(spec: dict[str, Any]) -> None:
    first = children_of(spec)
    assert children_of(spec, deployment=stored(first[-1])) == first


@SLOWLY
@given(specs, specs)
def test_a_change_and_its_reversal_give_the_first_plan(
    a: dict[str, Any], b: dict[str, Any]
) -> None:
    """A, then B, then A again: nothing of B remains. Also when B cannot be planned at all."""
    first = children_of(a)
    broken = {**b, "template": {"spec": {"containers": [{"image": "x"}]}}}
    between = plan(Observed(resource(broken), DEFAULTS, stored(first[-1])), None, NOW)
    assert between.children == ()
    assert children_of(a, deployment=stored(first[-1])) == first
    second = children_of(b, deployment=stored(first[-1]))
    assert children_of(a, deployment=stored(second[-1])) == first


@SLOWLY
@given(specs)
def test_spelling_out_the_defaults_changes_nothing(spec: dict[str, Any]) -> None:
    spelled = to_json(resource(spec).spec)
    assert resource(spelled) == resource(spec)
    assert children_of(spelled) == children_of(spec)


pods = st.builds(
    Pod,
    name=names,
    uid=names,
    phase=st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "Unknown"]),
    ready=st.booleans(),
    created_at=st.floats(0, NOW),
    deleted_at=st.one_of(st.none(), st.just(NOW)),
    containers=st.lists(
        st.builds(
            Container,
            name=names,
            role=st.sampled_from(Role),
            waiting_reason=st.sampled_from(["", "ErrImagePull", "CrashLoopBackOff"]),
            waiting_message=st.text(max_size=20),
            running=st.booleans(),
            ended=st.one_of(
                st.none(),
                st.builds(
                    Ended,
                    exit_code=st.one_of(st.none(), st.integers(0, 255)),
                    message=st.text(max_size=50),
                ),
            ),
        ),
        max_size=3,
    ).map(tuple),
    unschedulable_message=st.sampled_from(["", "0/1 nodes are available: 1 Insufficient cpu."]),
)
decisions = st.one_of(
    st.none(),
    st.builds(
        lambda count, why: Decision(NOW, count, count, why, "Because.", DecisionMode.REACTIVE),
        st.integers(0, 10),
        st.sampled_from(list(Why)),
    ),
)


@SLOWLY
@given(specs, st.lists(pods, max_size=4), decisions, st.booleans())
def test_there_is_a_status_for_whatever_is_found(
    spec: dict[str, Any], observed_state: list[Pod], decision: Decision | None, exists: bool
) -> None:
    made = resource(spec)
    deployment: dict[str, Any] = {}
    if exists:
        deployment = {"deployment": stored(children_of(spec)[-1])}
    observed = Observed(made, DEFAULTS, pods=tuple(observed_state), **deployment)
    problem = plan(observed, decision, NOW).problem
    status = plan_status(observed, decision, NOW, unplannable=problem)
    kinds = [one["type"] for one in status["conditions"]]
    assert len(kinds) == len(set(kinds))
    assert kinds[:4] == ["Ready", "Available", "Progressing", "ScalingActive"]
    ready = next(one for one in status["conditions"] if one["type"] == ConditionType.READY)
    available = sum(
        pod.serves and pod.phase not in ("Failed", "Succeeded") for pod in observed_state
    )
    if ready["status"] == "True":
        assert available >= status["desiredReplicas"]
    for one in status["conditions"]:
        assert one["reason"].isalnum()
        assert one["message"]

    again = replace(observed, resource=resource(spec, status=status))
    later = plan_status(again, decision, NOW + 99, unplannable=problem)
    assert later == status, "a settled status is not written again"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@SLOWLY
@given(
    st.sampled_from(
        [
            *("replicas", "model", "engine", "runtime", "resources"),
            *("priority", "autoscaling", "rollout", "template"),
        ]
    ),
    json_values,
)
def test_parse_never_breaks(field: str, value: Any) -> None:
    """Any JSON in any place is parsed, or rejected with the field's name."""
    paths = [f"spec.{field}"]
    try:
        resource({field: value})
    except Invalid as error:
        paths = [one.path for one in error.errors]
    assert paths
    assert all(path.startswith(f"spec.{field}") for path in paths)


@SLOWLY
@given(st.dictionaries(st.sampled_from(["metadata", "spec", "containers", "env"]), json_values))
def test_any_template_is_merged_or_named(template: dict[str, Any]) -> None:
    inner = {"spec": template}
    try:
        made = resource({"template": inner})
    except Invalid:
        return
    planned = plan(Observed(made, DEFAULTS), None, NOW)
    assert planned.children or planned.problem
