"""Job of a backtest: one pod that reads Prometheus and returns its result as termination message.

The Job contains the whole run: the R1Inference is an annotation of the pod, mounted as a file (downward
API), and the hash of its autoscaling is an annotation of the Job. So no run is half created, and the
operator needs no right to create other objects. The pod has no service account token.
"""

from __future__ import annotations

import json
from typing import Any, Final

from r1_operator.api import names
from r1_operator.api.accelerators import GPU
from r1_operator.api.backtest.spec import R1Backtest, autoscaling_hash
from r1_operator.api.fields.declare import to_json
from r1_operator.api.names import Annotation, Label
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.backtest.observed import CONTAINER, BacktestObservation, BacktestSite
from r1_operator.plan.workload.accelerators import accelerators_of
from r1_operator.plan.workload.pod import USER
from r1_operator.plan.workload.template import merge_template

__all__ = ["CONTAINER", "build_job", "job_name", "labels", "start_seconds"]

DEADLINE_SECONDS: Final = 3600
TTL_SECONDS: Final = 3600
"""Time until Kubernetes deletes a finished Job with its log."""
UNMEASURED_START_SECONDS: Final = 120
_FOLDER, _FILE = "/etc/r1", "resource.json"
_MESSAGE = "/dev/termination-log"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_name(backtest: R1Backtest) -> str:
    """Return the Job's name, from the object's uid: a recreated R1Backtest gets another Job."""
    return f"r1bt-{backtest.uid}"


def labels(backtest: R1Backtest) -> dict[str, str]:
    """Return the labels of Job and pod."""
    return {
        Label.NAME.value: names.BACKTEST_SINGULAR,
        Label.MANAGED_BY.value: names.FIELD_MANAGER,
        Label.BACKTEST.value: backtest.name,
        Label.BACKTEST_NAMESPACE.value: backtest.namespace,
    }


def start_seconds(observation: BacktestObservation) -> int:
    """Return a replica's start-up time: from the spec, measured, or assumed."""
    if observation.backtest.spec.start_seconds is not None:
        return observation.backtest.spec.start_seconds
    if observation.lead_seconds is not None:
        return max(1, round(observation.lead_seconds))
    return UNMEASURED_START_SECONDS


def build_job(observation: BacktestObservation, inference: R1Inference) -> dict[str, Any]:
    """Return the Job that replays `inference`. Raises Unplannable for an invalid site template."""
    backtest, start = observation.backtest, start_seconds(observation)
    metadata = {"labels": labels(backtest)}
    pod = {
        "metadata": metadata
        | {
            "annotations": {
                Annotation.BACKTEST_TARGET.value: _backtest_manifest(inference, observation.site)
            }
        },
        "spec": _pod(backtest, observation.site, start),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata
        | {
            "name": job_name(backtest),
            "namespace": observation.site.namespace,
            "annotations": {
                Annotation.AUTOSCALING_HASH.value: autoscaling_hash(inference.spec.autoscaling),
                Annotation.START_SECONDS.value: str(start),
            },
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            # A node drain is not a failure of the run: the pod is created again.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": merge_template(pod, observation.site.template),
        },
    }


def _backtest_manifest(inference: R1Inference, site: BacktestSite) -> str:
    """Return the part of the resource that a backtest reads, as a manifest without pod template.

    A backtest needs the number of accelerators for the budgets. So all accelerators of a replica are
    written under the one name that is always known.
    """
    spec = to_json(inference.spec, defaults=False)
    accelerators = accelerators_of(inference.spec, site.defaults)
    spec["resources"] = (
        {"limits": {GPU: accelerators.per_replica}} if accelerators.per_replica else {}
    )
    fields = ("autoscaling", "runtime", "resources")
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": inference.name, "namespace": inference.namespace},
        "spec": {key: spec[key] for key in fields if key in spec},
    }
    return json.dumps(manifest, separators=(",", ":"))


def _pod(backtest: R1Backtest, site: BacktestSite, start: int) -> dict[str, Any]:
    policies = ",".join(["ours", *(policy.value for policy in backtest.spec.policies)])
    environment = {"HOME": "/tmp", "USER": "backtest"} | dict.fromkeys(_THREADS, "1")  # noqa: S108
    if site.prometheus_client:
        environment["R1_PROMETHEUS_CLIENT"] = site.prometheus_client
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # A kill loses nothing, and the next backtest starts once this Job is gone.
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
                    f"--policies={policies}",
                    f"--message={_MESSAGE}",
                    "--json",
                ],
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "resources": {
                    "requests": {"cpu": "500m", "memory": "1Gi"},
                    "limits": {"memory": "2Gi"},
                },
                "terminationMessagePath": _MESSAGE,
                # The end of the log where a killed or failed process left no message.
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
