"""The Job of a backtest: one pod that reads Prometheus and answers by its termination message.

All of a run is in this one object: the R1Inference as it was rides as an annotation of the pod and is
mounted as a file (downward API), the hash of what is tried stands on the Job. So nothing can be half
made, and nobody needs a right to make anything else. No service account token, no way to write.
"""

from __future__ import annotations

import json
from typing import Any, Final

from r1_operator.api import names
from r1_operator.api.accelerators import GPU
from r1_operator.api.backtest import R1Backtest, autoscaling_hash
from r1_operator.api.declare import to_json
from r1_operator.api.names import Annotation, Label
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.backtest.observed import CONTAINER, BacktestObservation, BacktestSite
from r1_operator.plan.workload.accelerators import accelerators_of
from r1_operator.plan.workload.pod import USER
from r1_operator.plan.workload.template import merge_template

__all__ = ["CONTAINER", "build_job", "job_name", "labels", "start_seconds"]

DEADLINE_SECONDS: Final = 3600
KEPT_SECONDS: Final = 3600
"""How long Kubernetes keeps a finished Job with its log; it also bounds what a lost one leaves."""
UNMEASURED_START_SECONDS: Final = 120
_FOLDER, _FILE = "/etc/r1", "resource.json"
_MESSAGE = "/dev/termination-log"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_name(backtest: R1Backtest) -> str:
    """The Job's name: by the object's uid, so that one of the same name gets another Job."""
    return f"r1bt-{backtest.uid}"


def labels(backtest: R1Backtest) -> dict[str, str]:
    """The labels of Job and pod."""
    return {
        Label.NAME.value: names.BACKTEST_SINGULAR,
        Label.MANAGED_BY.value: names.FIELD_MANAGER,
        Label.BACKTEST.value: backtest.name,
        Label.BACKTEST_NAMESPACE.value: backtest.namespace,
    }


def start_seconds(seen: BacktestObservation) -> int:
    """What a replica is taken to need: as asked, as measured, or an assumption."""
    if seen.backtest.spec.start_seconds is not None:
        return seen.backtest.spec.start_seconds
    if seen.lead_seconds is not None:
        return max(1, round(seen.lead_seconds))
    return UNMEASURED_START_SECONDS


def build_job(seen: BacktestObservation, inference: R1Inference) -> dict[str, Any]:
    """The Job that plays `inference`. Raises Unplannable where the site's template is none."""
    backtest, start = seen.backtest, start_seconds(seen)
    metadata = {"labels": labels(backtest)}
    pod = {
        "metadata": metadata
        | {"annotations": {Annotation.BACKTEST_TARGET.value: _tried(inference, seen.site)}},
        "spec": _pod(backtest, seen.site, start),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata
        | {
            "name": job_name(backtest),
            "namespace": seen.site.namespace,
            "annotations": {
                Annotation.AUTOSCALING_HASH.value: autoscaling_hash(inference.spec.autoscaling),
                Annotation.START_SECONDS.value: str(start),
            },
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            # A node that is drained is no fault of the run: its pod is made again.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": merge_template(pod, seen.site.template),
        },
    }


def _tried(inference: R1Inference, site: BacktestSite) -> str:
    """What a backtest reads of the resource, as a manifest; the pod's template is not of it.

    Of resources a backtest counts accelerators alone, for the budgets. So all that a replica holds,
    by whatever name and in whichever container, stands under the one name that is always known.
    """
    spec = to_json(inference.spec, defaults=False)
    held = accelerators_of(inference.spec, site.defaults)
    spec["resources"] = {"limits": {GPU: held.per_replica}} if held.per_replica else {}
    kept = ("autoscaling", "runtime", "resources")
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": inference.name, "namespace": inference.namespace},
        "spec": {key: spec[key] for key in kept if key in spec},
    }
    return json.dumps(manifest, separators=(",", ":"))


def _pod(backtest: R1Backtest, site: BacktestSite, start: int) -> dict[str, Any]:
    played = ",".join(["ours", *(policy.value for policy in backtest.spec.policies)])
    environment = {"HOME": "/tmp", "USER": "backtest"} | dict.fromkeys(_THREADS, "1")  # noqa: S108
    if site.prometheus_client:
        environment["R1_PROMETHEUS_CLIENT"] = site.prometheus_client
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Nothing is lost by a kill, and the next one may begin as soon as this one's Job is gone.
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            # The files of a mounted Secret belong to root and to this group.
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": site.image,
                "args": [
                    f"{_FOLDER}/{_FILE}",
                    f"--prometheus={site.prometheus_url}",
                    f"--since={backtest.spec.since_seconds}s",
                    f"--start={start}s",
                    f"--policies={played}",
                    f"--message={_MESSAGE}",
                    "--json",
                ],
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "resources": {
                    "requests": {"cpu": "500m", "memory": "1Gi"},
                    "limits": {"memory": "2Gi"},
                },
                "terminationMessagePath": _MESSAGE,
                # What a process that is killed or breaks has said last, where it left no message.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                    {"name": "tried", "mountPath": _FOLDER, "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            {
                "name": "tried",
                "downwardAPI": {
                    "items": [
                        {
                            "path": _FILE,
                            "fieldRef": {
                                "fieldPath": f"metadata.annotations['{Annotation.BACKTEST_TARGET}']"
                            },
                        }
                    ]
                },
            },
        ],
    }
