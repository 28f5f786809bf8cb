"""Diagnosis of kubelet, scheduler and API server reports: reason and remedy.

The statuses are those of real clusters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem
from r1_operator.plan.resource_plan import plan
from r1_operator.plan.snapshot import Observed, WriteError
from r1_operator.plan.status.diagnosis import diagnose as diagnose_at

NOW = 1_800_000_000.0


def diagnose(current: Observed) -> Problem | None:
    return diagnose_at(current, NOW)


def waiting(why: str, words: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": why, "message": words}}}


def crashed(**last: Any) -> dict[str, Any]:
    """Waits to be restarted after its third exit."""
    words = "back-off 40s restarting failed container=engine pod=r1-1_team(1)"
    return waiting("CrashLoopBackOff", words) | {
        "restartCount": 3,
        "lastState": {"terminated": last},
    }


def unscheduled(message: str) -> list[dict[str, Any]]:
    return [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    ]


CONFIG = "CreateContainerConfigError"
USAGE = "usage: serve [-h] --model-path PATH\nserve: error: unrecognized arguments: --sed 1"

CONTAINERS: list[tuple[str, dict[str, Any], ConditionReason, tuple[str, ...]]] = [
    (
        "a secret that is not there",
        waiting(CONFIG, 'secret "hub-token" not found'),
        ConditionReason.MISSING_SECRET,
        ("hub-token", "Create the Secret", "namespace team"),
    ),
    (
        "a key that the secret has not",
        waiting(CONFIG, "couldn't find key token in Secret team/hub-token"),
        ConditionReason.MISSING_SECRET,
        ("key token", "Create the Secret"),
    ),
    (
        "a config map that is not there",
        waiting(CONFIG, 'configmap "engine-flags" not found'),
        ConditionReason.MISSING_CONFIG_MAP,
        ("engine-flags", "Create the ConfigMap"),
    ),
    (
        "an image that wants root",
        waiting(
            CONFIG,
            'container has runAsNonRoot and image will run as root (pod: "r1-1_team(1)", '
            "container: engine)",
        ),
        ConditionReason.CONTAINER_START_FAILED,
        ("must not run as root",),
    ),
    (
        "an image that does not exist",
        waiting(
            "ImagePullBackOff",
            'Back-off pulling image "registry.example/runtime:none": ErrImagePull: rpc error: code '
            '= NotFound desc = failed to pull and unpack image "registry.example/runtime:none"',
        ),
        ConditionReason.IMAGE_PULL_FAILED,
        ("runtime:none", "Check spec.engine.image", "operator's default"),
    ),
    (
        "an image behind a login",
        waiting("ErrImagePull", "failed to authorize: 401 Unauthorized"),
        ConditionReason.IMAGE_PULL_FAILED,
        ("spec.template.spec.imagePullSecrets",),
    ),
    (
        "an image that must be on the node",
        waiting("ErrImageNeverPull", 'Container image "x:1" is not present with pull policy Never'),
        ConditionReason.IMAGE_PULL_FAILED,
        ("load the image onto the node",),
    ),
    (
        "an image name that is none",
        waiting("InvalidImageName", 'Failed to apply default image tag "A B": invalid reference'),
        ConditionReason.IMAGE_PULL_FAILED,
        ("InvalidImageName",),
    ),
    (
        "a model that is not there",
        crashed(
            exitCode=2,
            reason="Error",
            message="ModelLoadFailed: /models has no config.json\n",
        ),
        ConditionReason.MODEL_LOAD_FAILED,
        ("/models has no config.json", "spec.model.source"),
    ),
    (
        "a model that failed and is tried again",
        {
            "restartCount": 1,
            "state": {"running": {"startedAt": "2027-01-15T07:59:30Z"}},
            "lastState": {
                "terminated": {"exitCode": 2, "reason": "Error", "message": "bad tensor"}
            },
        },
        ConditionReason.MODEL_LOAD_FAILED,
        ("bad tensor",),
    ),
    (
        "a model that failed this moment",
        {
            "restartCount": 0,
            "state": {"terminated": {"exitCode": 2, "reason": "Error", "message": "bad tensor"}},
        },
        ConditionReason.MODEL_LOAD_FAILED,
        ("bad tensor",),
    ),
    (
        "a flag that the engine does not know",
        crashed(exitCode=2, reason="Error", message=USAGE),
        ConditionReason.ENGINE_ARGUMENTS_REJECTED,
        ("--sed 1", "Correct spec.engine.args"),
    ),
    (
        "too little memory",
        crashed(exitCode=137, reason="OOMKilled"),
        ConditionReason.OUT_OF_MEMORY,
        ("3 restarts", "spec.resources.limits.memory"),
    ),
    (
        "killed while it loaded",
        crashed(exitCode=137, reason="Error"),
        ConditionReason.CRASH_LOOPING,
        ("600 s", "spec.rollout.progressDeadlineSeconds"),
    ),
    (
        "a crash",
        crashed(exitCode=1, reason="Error", message="Traceback ... CUDA error: no device"),
        ConditionReason.CRASH_LOOPING,
        ("exit code 1", "CUDA error", "kubectl logs -c engine --previous r1-1 -n team"),
    ),
    (
        "a command that the image has not",
        crashed(
            exitCode=128,
            reason="StartError",
            message='exec: "python3": executable file not found in $PATH: unknown',
        ),
        ConditionReason.CONTAINER_START_FAILED,
        ("python3", "Check spec.engine.image"),
    ),
]

SCHEDULING = [
    (
        "no GPU is free",
        (
            "0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient nvidia.com/gpu. preemption: "
            "0/3 nodes are available: 3 No preemption victims found for incoming pod."
        ),
        ConditionReason.UNSCHEDULABLE,
        ("1 of 1 pods", "1 nvidia.com/gpu", "2 cpu", "Add nodes with free devices"),
    ),
    (
        "no memory is free",
        "0/1 nodes are available: 1 Insufficient memory.",
        ConditionReason.UNSCHEDULABLE,
        ("lower spec.resources",),
    ),
    (
        "a taint",
        "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: batch}.",
        ConditionReason.UNSCHEDULABLE,
        ("tolerations", "spec.template"),
    ),
    (
        "a claim that is not there",
        (
            '0/1 nodes are available: persistentvolumeclaim "weights" not found. preemption: 0/1 '
            "nodes are available: 1 Preemption is not helpful for scheduling."
        ),
        ConditionReason.MISSING_VOLUME_CLAIM,
        ("PersistentVolumeClaim weights does not exist in namespace team", "claimName"),
    ),
    (
        "a claim without volume",
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        ConditionReason.VOLUME_CLAIM_UNBOUND,
        ("storage class",),
    ),
]

REPLICA_FAILURES = [
    (
        (
            'pods "r1-5b9c-x7k2p" is forbidden: exceeded quota: gpus, requested: '
            "requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4, limited: 4"
        ),
        ConditionReason.QUOTA_EXCEEDED,
        ("exceeded quota: gpus", "Raise the ResourceQuota"),
    ),
    (
        (
            'pods "r1-5b9c-x7k2p" is forbidden: violates PodSecurity "restricted:latest": privileged '
            '(container "engine" must not set securityContext.privileged=true)'
        ),
        ConditionReason.POD_REJECTED,
        ("privileged", "spec.template"),
    ),
    (
        'pods "r1-5b9c-x7k2p" is forbidden: error looking up service account team/none',
        ConditionReason.POD_REJECTED,
        ("service account", "Correct spec.template"),
    ),
]

SPEC = {
    "resources": {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "2"}},
    "replicas": 1,
}


@pytest.mark.parametrize(
    ("container", "reason", "says"),
    [pytest.param(*rest, id=name) for name, *rest in CONTAINERS],
)
def test_containers(
    container: dict[str, Any],
    reason: ConditionReason,
    says: tuple[str, ...],
    resource: Any,
    observed: Any,
    pod: Any,
) -> None:
    current = observed(resource(SPEC), replicas=1, pods=(pod(container=container),))
    check(current, reason, says)


@pytest.mark.parametrize(
    ("message", "reason", "says"), [pytest.param(*rest, id=name) for name, *rest in SCHEDULING]
)
def test_scheduling(
    message: str,
    reason: ConditionReason,
    says: tuple[str, ...],
    resource: Any,
    observed: Any,
    pod: Any,
) -> None:
    stuck = pod(phase="Pending", container={}, conditions=unscheduled(message))
    check(observed(resource(SPEC), replicas=1, pods=(stuck,)), reason, says)


@pytest.mark.parametrize(("message", "reason", "says"), REPLICA_FAILURES)
def test_pods_that_may_not_be_created(
    message: str, reason: ConditionReason, says: tuple[str, ...], resource: Any, observed: Any
) -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": message,
    }
    check(observed(resource(SPEC), replicas=1, conditions=[failure]), reason, says)
    again = {**failure, "message": message.replace("x7k2p", "q9w8e")}
    assert diagnose(observed(resource(SPEC), replicas=1, conditions=[failure])) == diagnose(
        observed(resource(SPEC), replicas=1, conditions=[again])
    ), "the name of the next try must not make a new message"


def test_a_secret_volume(resource: Any, observed: Any, pod: Any) -> None:
    text = 'MountVolume.SetUp failed for volume "token" : secret "hub-token" not found'
    stuck = replace(
        pod(phase="Pending", container=waiting("ContainerCreating")), mount_message=text
    )
    check(
        observed(resource(SPEC), replicas=1, pods=(stuck,)),
        ConditionReason.MISSING_SECRET,
        ("hub-token", "namespace team"),
    )


def test_a_volume_that_does_not_mount(resource: Any, observed: Any, pod: Any) -> None:
    text = "Unable to attach or mount volumes: timed out waiting for the condition"
    stuck = replace(
        pod(phase="Pending", container=waiting("ContainerCreating")), mount_message=text
    )
    check(
        observed(resource(SPEC), replicas=1, pods=(stuck,)),
        ConditionReason.VOLUME_NOT_MOUNTED,
        ("timed out",),
    )


def test_a_pod_that_stays_silent_on_its_node(resource: Any, observed: Any, pod: Any) -> None:
    """A missing Secret of a volume is in no status: the kubelet only waits."""
    conditions = [
        {"type": kind, "status": truth, "lastTransitionTime": "2027-01-15T08:00:00Z"}
        for kind, truth in (("PodScheduled", "True"), ("PodReadyToStartContainers", "False"))
    ]
    silent = pod(phase="Pending", container=waiting("ContainerCreating"), conditions=conditions)
    current = observed(resource(SPEC), replicas=1, pods=(silent,))
    assert diagnose_at(current, NOW + 10) is None
    assert plan(current, None, NOW + 10).requeue_after == 5
    problem = diagnose_at(current, NOW + 16)
    assert problem is not None
    assert problem.reason is ConditionReason.VOLUME_NOT_MOUNTED
    assert "kubectl describe pod r1-1 -n team" in problem.message
    assert plan(current, None, NOW + 16).requeue_after is None


def test_an_init_container_that_cannot_start(resource: Any, observed: Any, pod: Any) -> None:
    init = [{"name": "fetch", "state": {"waiting": {"reason": "ErrImagePull", "message": "gone"}}}]
    stuck = pod(phase="Pending", container=waiting("PodInitializing"), init=init)
    stuck_engine = pod(phase="Pending", container={}, init=init)
    assert diagnose(observed(resource(SPEC), replicas=1, pods=(stuck,))) is not None
    check(
        observed(resource(SPEC), replicas=1, pods=(stuck_engine,)),
        ConditionReason.IMAGE_PULL_FAILED,
        ("gone",),
    )


def test_a_child_with_another_owner_is_reported(resource: Any, observed: Any) -> None:
    current = observed(resource(SPEC), replicas=1)
    service = {**current.service, "metadata": {"name": "r1", "ownerReferences": [{"uid": "other"}]}}
    check(
        replace(current, service=service),
        ConditionReason.CHILD_NOT_OWNED,
        ("Service r1", "another name"),
    )


def test_a_child_that_is_refused(resource: Any, observed: Any) -> None:
    refusal = WriteError(
        "Deployment", "r1", 'Deployment.apps "r1" is invalid: spec.template.spec.x'
    )
    current = observed(resource(SPEC), write_errors=(refusal,))
    check(current, ConditionReason.CHILD_REJECTED, ("Deployment r1", "spec.template"))


def test_a_rollout_that_stands_still_for_no_known_reason(resource: Any, observed: Any) -> None:
    stood = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    current = observed(resource(SPEC), replicas=1, conditions=[stood])
    check(current, ConditionReason.DEADLINE_EXCEEDED, ("600 s",))


def test_a_rollout_without_room_says_how_to_go_without(
    resource: Any, observed: Any, pod: Any
) -> None:
    old = pod("r1-old", ready=True, labels={"pod-template-hash": "1"})
    new = pod(
        "r1-new",
        phase="Pending",
        container={},
        conditions=unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        labels={"pod-template-hash": "2"},
    )
    current = observed(resource(SPEC), replicas=1, pods=(old, new), updated=1)
    check(current, ConditionReason.UNSCHEDULABLE, ("maxSurge 0 and maxUnavailable 1",))


@pytest.mark.parametrize(
    "container",
    [
        {},
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        {"state": {"running": {"startedAt": "2027-01-15T07:59:30Z"}}},
    ],
)
def test_a_pod_that_only_needs_time_has_no_problem(
    container: dict[str, Any], resource: Any, observed: Any, pod: Any
) -> None:
    current = observed(
        resource(SPEC), replicas=1, pods=(pod(phase="Pending", container=container),)
    )
    assert diagnose(current) is None


def test_pods_that_leave_or_serve_are_not_judged(resource: Any, observed: Any, pod: Any) -> None:
    crash = crashed(exitCode=1, reason="Error")
    leaving = pod("r1-leaving", container=crash, deleted=True)
    serving = pod("r1-serving", ready=True, container=crash)
    ended = pod("r1-ended", phase="Failed", container=crash)
    current = observed(resource(SPEC), replicas=1, pods=(leaving, serving, ended))
    assert diagnose(current) is None


def test_long_texts_are_cut_at_their_start(resource: Any, observed: Any, pod: Any) -> None:
    text = "x" * 50_000 + " the real cause"
    crash = crashed(exitCode=1, reason="Error", message=text)
    problem = diagnose(observed(resource(SPEC), replicas=1, pods=(pod(container=crash),)))
    assert problem is not None
    assert "the real cause" in problem.message
    assert len(problem.message) < 2_000


def check(current: Observed, reason: ConditionReason, says: tuple[str, ...]) -> None:
    problem = diagnose(current)
    assert problem is not None
    assert problem.reason is reason, problem.message
    for fragment in says:
        assert fragment in problem.message
    assert problem.message.endswith(".")
