"""Reports of failing containers: name, exit and logs, without flapping."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_operator.api.names import ConditionReason
from r1_operator.plan.container_state import read_containers
from r1_operator.plan.resource_plan import plan
from r1_operator.plan.snapshot import Pod, read_pod
from r1_operator.plan.status.conditions import rfc3339
from r1_operator.plan.status.resource_status import plan_status

NOW = 1_800_000_000.0
Json = dict[str, Any]
RUNNING: Json = {"name": "engine", "ready": True, "state": {"running": {}}, "restartCount": 0}
INITIALIZING: Json = {"name": "engine", "state": {"waiting": {"reason": "PodInitializing"}}}
KINDS = ["init", "native sidecar", "sidecar", "engine"]


def end(code: int = 1, why: str = "Error", words: str = "no route to host", **more: Any) -> Json:
    times = {"startedAt": rfc3339(NOW - 20), "finishedAt": rfc3339(NOW - 10)}
    return {"exitCode": code, "reason": why, "message": words, **times, **more}


def waits(last: Json, restarts: int = 4) -> Json:
    back_off = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    return {
        "state": {"waiting": back_off},
        "lastState": {"terminated": last},
        "restartCount": restarts,
    }


def runs(last: Json, restarts: int = 5, since: float = NOW - 3, *, ready: bool = True) -> Json:
    return {
        "ready": ready,
        "state": {"running": {"startedAt": rfc3339(since)}},
        "lastState": {"terminated": last},
        "restartCount": restarts,
    }


def ends(last: Json, restarts: int = 5) -> Json:
    return {"state": {"terminated": last}, "restartCount": restarts}


def pod_of(kind: str, state: Json, *, ready: bool | None = None) -> Pod:
    """A pod with one container of this kind in this state; all others run."""
    status: Json = {"name": "engine" if kind == "engine" else "helper", **state}
    running = "running" in state["state"]
    init, spec_init = [], []
    containers = [RUNNING]
    if kind in ("init", "native sidecar"):
        policy = {"restartPolicy": "Always"} if kind == "native sidecar" else {}
        spec_init = [{"name": "helper", **policy}]
        init = [status]
        if kind == "init" or not running:
            containers = [INITIALIZING]
    elif kind == "sidecar":
        containers = [RUNNING, status]
    else:
        containers = [status]
    if ready is None:
        ready = running and kind in ("native sidecar", "sidecar")
    return read_pod(
        {
            "metadata": {"name": "r1-1", "uid": "1", "creationTimestamp": rfc3339(NOW - 300)},
            "spec": {"initContainers": spec_init, "nodeName": "n"},
            "status": {
                "phase": "Pending" if kind == "init" else "Running",
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True" if ready else "False",
                        "lastTransitionTime": rfc3339(NOW - 3),
                    }
                ],
                "initContainerStatuses": init,
                "containerStatuses": containers,
            },
        }
    )


def degraded(resource: Any, observed: Any, pod: Pod, now: float = NOW) -> Json:
    current = observed(resource({"replicas": 1}), replicas=1, pods=(pod,))
    conditions = plan_status(current, None, now)["conditions"]
    return next((one for one in conditions if one["type"] == "Degraded"), {})


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_does_not_change_between_two_tries(
    kind: str, resource: Any, observed: Any
) -> None:
    last = end(3)
    reports = [
        degraded(resource, observed, pod_of(kind, state))
        for state in (
            waits(last, 5),
            runs(last, 5, ready=kind not in ("init", "engine")),
            ends(last, 5),
            {**waits(last, 5), "state": {"waiting": {"reason": "PodInitializing"}}},
        )
    ]
    messages = {one.get("message") for one in reports}
    assert len(messages) == 1, messages
    (message,) = messages
    assert message is not None
    name = "engine" if kind == "engine" else "helper"
    for words in ("exit code 3", "5 restarts", "no route to host"):
        assert words in message
    assert f"kubectl logs -c {name} --previous r1-1 -n team" in message
    assert name in message


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_named_with_the_container(kind: str, resource: Any, observed: Any) -> None:
    condition = degraded(resource, observed, pod_of(kind, waits(end(137, "OOMKilled", ""))))
    assert condition["reason"] == ConditionReason.OUT_OF_MEMORY
    assert ("container helper in spec.template" in condition["message"]) == (kind != "engine")
    name = "engine" if kind == "engine" else "helper"
    assert f"-c {name} --previous" in condition["message"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_is_named_with_the_container(
    kind: str, reason: str, resource: Any, observed: Any
) -> None:
    state = {"state": {"waiting": {"reason": reason, "message": "not found"}}}
    condition = degraded(resource, observed, pod_of(kind, state))
    assert condition["reason"] == ConditionReason.IMAGE_PULL_FAILED
    assert ("helper" in condition["message"]) == (kind != "engine")
    assert ("operator's default" in condition["message"]) == (kind == "engine")


@pytest.mark.parametrize("kind", ["init", "native sidecar", "sidecar"])
@pytest.mark.parametrize("code", [2, 137])
def test_the_engines_own_causes_are_not_those_of_others(
    kind: str, code: int, resource: Any, observed: Any
) -> None:
    words = "usage: fetch\nfetch: error: unrecognized arguments: --x"
    condition = degraded(resource, observed, pod_of(kind, waits(end(code, words=words))))
    assert condition["reason"] == ConditionReason.CRASH_LOOPING
    assert f"exit code {code}" in condition["message"]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (end(139), "exit code 139 (SIGSEGV)"),
        (end(0, "Completed"), "exit code 0"),
        (end(134, signal=6), "exit code 134 (SIGABRT)"),
        (end(255), "exit code 255 (signal 127)"),
        (end(1, words=""), "No output."),
    ],
)
def test_how_it_ended(last: Json, words: str, resource: Any, observed: Any) -> None:
    assert words in degraded(resource, observed, pod_of("sidecar", waits(last)))["message"]


def test_a_loop_without_a_last_state_has_no_exit_code_none(resource: Any, observed: Any) -> None:
    state = {**waits({}), "lastState": {}}
    message = degraded(resource, observed, pod_of("sidecar", state))["message"]
    assert "None" not in message
    assert "exits repeatedly" in message


@pytest.mark.parametrize("kind", ["native sidecar", "sidecar"])
def test_a_sidecar_that_runs_for_long_has_recovered(
    kind: str, resource: Any, observed: Any
) -> None:
    pod = pod_of(kind, runs(end(), since=NOW - 3))
    assert degraded(resource, observed, pod) != {}
    current = observed(resource({"replicas": 1}), replicas=1, pods=(pod,))
    again = plan(current, None, NOW).requeue_after
    assert again is not None
    assert again <= 597
    assert degraded(resource, observed, pod, NOW + 598) == {}


def test_one_accident_of_a_pod_that_serves_is_no_problem(resource: Any, observed: Any) -> None:
    assert degraded(resource, observed, pod_of("sidecar", runs(end(), restarts=1))) == {}
    week = end(startedAt=rfc3339(NOW - 700_000))
    assert degraded(resource, observed, pod_of("sidecar", runs(week, restarts=3))) == {}


def test_an_engine_that_loads_is_not_blamed_for_a_sidecars_past(
    resource: Any, observed: Any
) -> None:
    old = runs(end(), since=NOW - 5_000)
    assert degraded(resource, observed, pod_of("sidecar", old, ready=False)) == {}


def test_an_init_container_that_is_done_is_no_problem(resource: Any, observed: Any) -> None:
    done = {"ready": True, "state": {"terminated": end(0, "Completed")}, "restartCount": 2}
    assert read_containers({"status": {"initContainerStatuses": [{"name": "i", **done}]}}) == ()
    assert degraded(resource, observed, pod_of("init", done)) == {}


def test_a_pod_that_is_well_keeps_no_containers() -> None:
    assert read_containers({"status": {"containerStatuses": [RUNNING, INITIALIZING]}}) == ()


STATES = st.sampled_from(
    [
        waits(end()),
        runs(end()),
        ends(end()),
        {"state": {}},
        {},
        {"state": {"waiting": {}}},
        {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}},
        {"state": {"waiting": {"reason": "ErrImagePull"}}},
        {"state": {"terminated": {"exitCode": 1, "signal": 99}}},
    ]
)


@given(st.lists(STATES, max_size=4), st.lists(STATES, max_size=4), st.booleans())
def test_any_statuses_have_a_report_or_none(
    init: list[Json], main: list[Json], ready: bool
) -> None:
    truth = {"type": "Ready", "status": str(ready), "lastTransitionTime": rfc3339(NOW)}
    status = {
        "phase": "Running",
        "conditions": [truth],
        "initContainerStatuses": [{"name": f"i{n}", **one} for n, one in enumerate(init)],
        "containerStatuses": [{"name": f"c{n}", **one} for n, one in enumerate(main)],
    }
    pod = read_pod({"metadata": {"name": "p", "creationTimestamp": rfc3339(NOW)}, "status": status})
    for container in pod.containers:
        assert container.waiting_reason or container.ended is not None
