"""The imagined HorizontalPodAutoscaler beside the real one: the same count at every look.

etcd, kube-apiserver and the real kube-controller-manager run with a look every 0.8 s; its HPAs scale
workloads without pods on an external metric of ours (`scaled_workloads.py`). What a look was shown, and
when, is written down, and `plan/counterfactual.py` is shown the same. Windows and periods are whole
seconds that lie between two looks' distances, so that no outcome hangs on a millisecond.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_cluster.control_plane import certificates
from r1_cluster.control_plane.controlplane import ControlPlane, control_plane, controllers
from r1_cluster.programs.binaries import ensure_binaries
from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.hpa_simulation import HpaRules, HpaState, simulate_sync
from r1_operator.plan.scaling.policy import RateLimit
from recurring_ramp import wait_for
from scaled_workloads import GROUP, KIND, VERSION, Look, Series, Stage, Workload, serving

pytestmark = pytest.mark.apiserver

SYNC = 0.8
DOWN_WINDOW = 6
"""Of an HPA without `spec.behavior`, by a flag; of those with one, by its field."""
SLACK = 0.3
PLAYS = 3
AVAILABLE = ("Available", "True")
TARGET = 7.0
PODS, PERCENT = PolicyType.PODS, PolicyType.PERCENT


def worth(*counts: float | None) -> list[float | None]:
    """What the metric says when so many replicas are wanted."""
    return [None if count is None else count * TARGET for count in counts]


@dataclass(frozen=True, slots=True)
class Case:
    """An HPA, the workload that it finds, and the series that it is shown."""

    series: Series
    start_replicas: int = 1
    rules: HpaRules = field(default_factory=lambda: HpaRules(0, 0, DOWN_WINDOW))
    bounds: tuple[int, int] = (1, 100)


FREE = HpaRules(0, 0, 0, (RateLimit(PODS, 100, 1),))
OLD = HpaRules(0, down_window=DOWN_WINDOW, has_behavior=False)
WAVES = worth(*([3] * 4 + [9] * 5 + [4] * 12 + [6] * 3 + [20] * 6 + [2] * 16 + [5] * 4))

CASES = {
    # Doubling, or four more, in any 15 s: the default, which is no window of ours.
    "rise": Case(worth(*[60] * 46)),
    "rise-from-three": Case(worth(*[60] * 24), start_replicas=3),
    "rise-of-one-period-is-over": Case(worth(*[1] * 3, *[3] * 8, *[40] * 40)),
    "tolerance": Case(
        worth(10, 10.9, 11, 11.001, 11, 9.901, 10, 9, 8.999, 9.8, 9.9, 9.901, 10, 20, 22, 18, 17.9),
        start_replicas=10,
        rules=FREE,
    ),
    "down-window": Case(worth(*[8] * 3, *[2] * 10, 7, *[2] * 10, 5, *[1] * 12), start_replicas=8),
    "down-at-once": Case(worth(9, 4, 2, 1, 6, 1, 1), start_replicas=9, rules=FREE),
    "up-window": Case(
        worth(*[2] * 3, 9, 9, 2, *[9] * 10, 12, *[6] * 10),
        start_replicas=2,
        rules=replace(FREE, up_window=3),
    ),
    "both-windows": Case(
        WAVES, start_replicas=3, rules=HpaRules(0, 2, DOWN_WINDOW, (RateLimit(PODS, 100, 1),))
    ),
    "rate-of-pods": Case(
        worth(*[30] * 20, *[1] * 20),
        rules=replace(
            FREE, up_limits=(RateLimit(PODS, 3, 3),), down_limits=(RateLimit(PODS, 2, 2),)
        ),
    ),
    "rate-of-percent": Case(
        worth(*[50] * 20, *[1] * 24),
        start_replicas=4,
        rules=replace(
            FREE,
            up_limits=(RateLimit(PERCENT, 50, 3),),
            down_limits=(RateLimit(PERCENT, 30, 3),),
        ),
    ),
    "the-widest-rate": Case(
        worth(*[70] * 16, *[1] * 20),
        start_replicas=2,
        rules=replace(
            FREE,
            up_limits=(RateLimit(PODS, 4, 2), RateLimit(PERCENT, 30, 5)),
            down_limits=(RateLimit(PODS, 3, 2), RateLimit(PERCENT, 15, 5)),
        ),
    ),
    # A rise is forgotten when the next one comes, though a fall's limit would still ask about it.
    "forgotten-rises": Case(
        worth(*[90] * 12, *[1] * 12),
        start_replicas=10,
        rules=replace(
            FREE, up_limits=(RateLimit(PODS, 4, 1),), down_limits=(RateLimit(PERCENT, 50, 15),)
        ),
    ),
    "missing": Case(
        worth(4, 4, None, None, 9, None, 9, *[None] * 5, *[3] * 10, None, *[3] * 3), start_replicas=4
    ),
    "missing-at-first": Case(worth(*[None] * 5, *[2] * 8), start_replicas=6),
    "nothing-to-do": Case(worth(*[0] * 10, 3, *[0] * 10), start_replicas=3),
    "at-zero": Case(worth(*[20] * 8), start_replicas=0),
    "bounds": Case(worth(*[50] * 3, *[0] * 10), start_replicas=5, rules=FREE, bounds=(3, 9)),
    "found-below": Case(worth(*[20] * 6), start_replicas=1, bounds=(6, 30)),
    "found-above": Case(worth(*[4] * 12), start_replicas=40, bounds=(1, 10)),
    "waves": Case(WAVES, start_replicas=3),
    "old-rise": Case(worth(*[1] * 3, *[60] * 10), rules=OLD),
    "old-climbs-to-what-was": Case(worth(2, 50, *[3] * 16), start_replicas=2, rules=OLD),
    "old-waves": Case(WAVES, start_replicas=3, rules=OLD),
    "old-missing": Case(worth(5, None, None, *[2] * 12), start_replicas=5, rules=OLD),
}  # fmt: skip


def behavior(rules: HpaRules) -> dict[str, Any]:
    """The `spec.behavior` that says what the rules say."""

    def policies(limits: Sequence[RateLimit]) -> list[dict[str, Any]]:
        return [
            {"type": limit.type.value, "value": limit.value, "periodSeconds": limit.period_seconds}
            for limit in limits
        ]

    return {
        "scaleUp": {
            "stabilizationWindowSeconds": rules.up_window,
            "policies": policies(rules.up_limits),
        },
        "scaleDown": {
            "stabilizationWindowSeconds": rules.down_window,
            "policies": policies(rules.down_limits),
        },
    }


def autoscaler(name: str, case: Case) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": str(TARGET)}
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": name},
        "minReplicas": case.bounds[0],
        "maxReplicas": case.bounds[1],
        "metrics": [{"type": "External", "external": {"metric": {"name": name}, "target": target}}],
    }
    if case.rules.has_behavior:
        spec["behavior"] = behavior(case.rules)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def aggregated(group: str, version: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "scaled", "namespace": "default", "port": port},
        },
    }


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> str:
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [str(program), "--kubeconfig", str(plane.kubeconfig), *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(plane: ControlPlane, manifests: Sequence[dict[str, Any]]) -> None:
    kubectl(plane, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))


def play(cases: Mapping[str, Case], folder: Path) -> Stage:
    """Play cases side by side, to the end of their series, on a control plane of their own."""
    stage = Stage(
        {name: Workload(case.series, case.start_replicas) for name, case in cases.items()}
    )
    flags = [
        f"--horizontal-pod-autoscaler-sync-period={SYNC}s",
        f"--horizontal-pod-autoscaler-downscale-stabilization={DOWN_WINDOW}s",
        f"--concurrent-horizontal-pod-autoscaler-syncs={len(cases)}",
        "--kube-api-content-type=application/json",
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
    ]
    with control_plane() as plane:
        authority = certificates.create_authority(folder, "ca")
        pair = certificates.issue(
            folder, "tls", authority, user="scaled", alternative_names=("DNS:localhost",)
        )
        with serving(stage, pair.certificate, pair.key) as port:
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "scaled", "namespace": "default"},
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            }
            apis = [("external.metrics.k8s.io", "v1beta1"), (GROUP, VERSION)]
            apply(plane, [service, *(aggregated(*api, port) for api in apis)])

            def available() -> bool:
                listed = json.loads(kubectl(plane, "get", "apiservices", "-o", "json"))["items"]
                ours = [each for each in listed if each["spec"].get("service")]
                reported = [  # nothing at all until the aggregator has looked
                    condition
                    for each in ours
                    for condition in each.get("status", {}).get("conditions", ())
                ]
                good = [one for one in reported if (one["type"], one["status"]) == AVAILABLE]
                return len(good) == len(apis)

            wait_for(available, 60, "both APIs are available")
            # In one object each, and before the controllers: none is looked at half made.
            apply(plane, [autoscaler(name, case) for name, case in cases.items()])
            with controllers(plane, ("horizontal-pod-autoscaler-controller",), flags) as log:
                shown = [w for name, w in stage.workloads.items() if name != "at-zero"]
                wait_for(
                    lambda: all(workload.finished for workload in shown),
                    240,
                    f"every series is told; see {log}",
                )
    return stage


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workload]:
    """All cases, as the owner played them; what ours does not follow was played three times.

    Windows are told by two clocks, the server's stamps and the owner's own. On a machine that
    stalls between the two an edge moves, and another play moves it elsewhere; where the rules
    differ, every play shows it.
    """
    by_name: dict[str, Workload] = {}
    left = dict(CASES)
    for number in range(PLAYS):
        by_name |= play(left, tmp_path_factory.mktemp(f"scaled-{number}")).workloads
        left = {name: case for name, case in left.items() if not follows(case, by_name[name])}
        if not left:
            break
    return by_name


def follows(case: Case, workload: Workload) -> bool:
    """Whether ours comes to the owner's count at every look."""
    try:
        courses(case, workload.looks, workload.moved_unseen)
    except AssertionError:
        return False
    return True


def possible(case: Case, state: HpaState, look: Look) -> dict[HpaState, bool]:
    """What may come of a look, and whether it does with the server's own stamp.

    The stamps of a look are the server's, the owner's own lie some milliseconds beside them: where
    an edge of a window or a period falls between the two, either side of it is right.
    """
    next_states: dict[HpaState, bool] = {}
    for off in (-SLACK, SLACK, 0.0):
        at = look.at + off
        after = simulate_sync(state, look.shown, TARGET, *case.bounds, at, case.rules)
        after = replace(
            after,
            synced_at=look.at,
            recommendations=tuple(
                replace(noted, at=look.at) if noted.at == at else noted
                for noted in after.recommendations
            ),
            lowest=tuple(
                replace(noted, at=look.at) if noted.at == at else noted for noted in after.lowest
            ),
            changes=tuple(
                replace(change, at=look.at) if change.at == at else change
                for change in after.changes
            ),
        )
        next_states[after] = off == 0
    return next_states


def courses(case: Case, looks: Sequence[Look], moved: Sequence[tuple[float, int]]) -> list[int]:
    """Show ours what the owner was shown and demand its count each time; gives the counts."""
    state = HpaState(case.start_replicas)
    for at, count in moved:  # to a bound, before the first look at the metric
        state = simulate_sync(state, None, TARGET, *case.bounds, at, case.rules)
        assert state.replicas == count
    states = {state: True}
    counts = [state.replicas]
    beside = 0
    for number, (look, after) in enumerate(pairwise(looks)):
        assert {state.replicas for state in states} == {look.replicas}
        near: dict[HpaState, bool] = {}
        for state in states:
            near |= possible(case, state, look)
        states = {ours: plain for ours, plain in near.items() if ours.replicas == after.replicas}
        assert states, (
            f"look {number} of {look.shown} at {look.replicas}: the owner comes to "
            f"{after.replicas}, ours to {sorted({ours.replicas for ours in near})}"
        )
        beside += not any(states.values())
        counts.append(after.replicas)
    assert beside <= len(looks) // 10, "the looks fall onto the edges of the windows"
    return counts


@pytest.mark.parametrize("name", [name for name in CASES if name != "at-zero"])
def test_every_sync_equals_the_kube_controller_manager(
    played: dict[str, Workload], name: str
) -> None:
    workload = played[name]
    assert len(workload.looks) > len(workload.series)
    counts = courses(CASES[name], workload.looks, workload.moved_unseen)
    print(name, counts)
    assert len(set(counts)) > 1, "a series at which nothing moves shows nothing"


def test_the_kube_controller_manager_skips_syncs_at_zero(played: dict[str, Workload]) -> None:
    asleep, case = played["at-zero"], CASES["at-zero"]
    assert (asleep.replicas, asleep.looks, asleep.moved_unseen) == (0, [], [])
    assert (
        simulate_sync(HpaState(0), 20 * TARGET, TARGET, *case.bounds, 0.0, case.rules).replicas == 0
    )
