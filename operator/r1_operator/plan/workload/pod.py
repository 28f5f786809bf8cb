"""The model pod: one engine container under the restricted Pod Security level.

The site's template and then the resource's own are merged over it. Only a template may loosen the security
settings, within the namespace's Pod Security level.
"""

from math import ceil
from typing import Any

from r1_operator.api import names
from r1_operator.api.accelerators import WHOLE_GPUS, taint_keys
from r1_operator.api.fields.declare import to_json
from r1_operator.api.serving import EngineType, ModelSource
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.problem import Problem, Unplannable
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.accelerators import Accelerators, accelerators_of, amounts_of
from r1_operator.plan.workload.engines import STARTS, EngineStart, EngineStartInput
from r1_operator.plan.workload.engines.start import LEAVE_SECONDS, POD_IP
from r1_operator.plan.workload.metadata import labels, selector
from r1_operator.plan.workload.revision import Rendering
from r1_operator.plan.workload.route import served_names
from r1_operator.plan.workload.template import merge_template

USER = 65532
MODELS = "/models"
STARTUP_PERIOD_SECONDS = 2
STOP_MARGIN_SECONDS = 10
"""After the drain: time for the engine to free its devices and exit."""


def build_pod_template(
    resource: R1Inference, defaults: Defaults, rendering: Rendering
) -> dict[str, Any]:
    """Return the Deployment's `spec.template`. Raises Unplannable."""
    source = resource.spec.model.source or defaults.model_source
    accelerators = accelerators_of(resource.spec, defaults)
    start = STARTS[resource.spec.engine.type](_request(resource, source, accelerators))
    image = resource.spec.engine.image or rendering.runtime_image
    template: dict[str, Any] = {
        "metadata": {"labels": labels(resource), "annotations": _scraping()},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": resource.spec.rollout.drain_seconds
            + LEAVE_SECONDS
            + STOP_MARGIN_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [_spread(resource)],
            "containers": [_container(resource, defaults, image, start, source)],
            "volumes": _volumes(start, source),
        },
    }
    if accelerators.replica:
        template["spec"]["tolerations"] = [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"}
            for key in taint_keys(accelerators.replica)
        ]
    template = merge_template(template, defaults.template)
    return merge_template(template, to_json(resource.spec.template))


def _request(
    resource: R1Inference, source: ModelSource, accelerators: Accelerators
) -> EngineStartInput:
    spec = resource.spec
    if spec.engine.type is EngineType.BUNDLED and not _divisible(accelerators):
        raise Unplannable(_too_many(resource, accelerators))
    if source.bundled is not None and spec.engine.type is not EngineType.BUNDLED:
        raise Unplannable(
            Problem(
                names.ConditionReason.MODEL_SOURCE_UNUSABLE,
                f"The model {source.bundled!r} is part of the bundled runtime, and {spec.engine.type}"
                " cannot load it: set spec.model.source.persistentVolumeClaim or "
                "spec.model.source.path.",
            )
        )
    path = source.path or MODELS
    if source.bundled is not None:
        path = f"bundled:{source.bundled}"
    return EngineStartInput(
        model_path=path,
        served_names=served_names(resource),
        port=names.PORT,
        runtime=spec.runtime,
        drain_seconds=spec.rollout.drain_seconds,
        gpus=accelerators.for_engine,
        args=spec.engine.args,
    )


def _divisible(accelerators: Accelerators) -> bool:
    """Whether the engine Bundled uses all of them: one of any kind, or whole GPUs of one vendor."""
    kinds = set(accelerators.engine)
    return accelerators.for_engine <= 1 or (len(kinds) == 1 and kinds <= WHOLE_GPUS)


def _too_many(resource: R1Inference, accelerators: Accelerators) -> Problem:
    limits = resource.spec.resources.limits
    field = "spec.resources.limits"
    if not any(name in limits for name in accelerators.engine):
        field = f"resources.limits of container {names.CONTAINER} in spec.template"
    counts = ", ".join(f"{count} {name}" for name, count in accelerators.engine.items())
    return Problem(
        names.ConditionReason.TOO_MANY_ACCELERATORS,
        f"{field} gives each replica {counts}, and the engine Bundled uses several only of "
        f"{' or '.join(sorted(WHOLE_GPUS))}: set it to 1 and raise spec.replicas (or "
        "spec.autoscaling.maxReplicas), or set spec.engine.type to vLLM or SGLang.",
    )


def _scraping() -> dict[str, str]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(names.PORT),
        "prometheus.io/path": "/metrics",
    }


def _spread(resource: R1Inference) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(resource)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _container(
    resource: R1Inference,
    defaults: Defaults,
    image: str,
    start: EngineStart,
    source: ModelSource,
) -> dict[str, Any]:
    # HOME and USER: no image has this user, and libraries read both.
    env = {"HOME": "/tmp", "USER": "engine"} | dict(start.env)  # noqa: S108
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": list(start.command),
        "env": [*_pod_ip(start), *({"name": key, "value": env[key]} for key in env)],
        "ports": [{"name": names.PORT_NAME, "containerPort": names.PORT, "protocol": "TCP"}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(start, source),
        "lifecycle": {"preStop": dict(start.pre_stop)},
        **_probes(start, resource.spec.rollout.progress_deadline_seconds),
    }
    resources = amounts_of(resource.spec.resources)
    if resources:
        container["resources"] = resources
    return container


def _pod_ip(start: EngineStart) -> list[dict[str, Any]]:
    field = {"apiVersion": "v1", "fieldPath": "status.podIP"}
    return [{"name": POD_IP, "valueFrom": {"fieldRef": field}}] if start.pod_ip else []


def _probes(start: EngineStart, deadline_seconds: int) -> dict[str, Any]:
    """Return the probes: start-up lasts as long as the rollout, readiness is fast, liveness slow."""

    def probe(path: str, period: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": names.PORT_NAME, "scheme": "HTTP"},
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    failures = ceil(deadline_seconds / STARTUP_PERIOD_SECONDS)
    return {
        "startupProbe": probe(start.ready_path, STARTUP_PERIOD_SECONDS, failures),
        "readinessProbe": probe(start.ready_path, 2, 3),
        "livenessProbe": probe(start.health_path, 10, 6),
    }


def _volumes(start: EngineStart, source: ModelSource) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if start.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    claim = source.persistent_volume_claim
    if claim is not None:
        volumes.append(
            {
                "name": "model",
                "persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True},
            }
        )
    return volumes


def _mounts(start: EngineStart, source: ModelSource) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if start.shared_memory:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    claim = source.persistent_volume_claim
    if claim is not None:
        mount: dict[str, Any] = {"name": "model", "mountPath": MODELS, "readOnly": True}
        if claim.sub_path is not None:
            mount["subPath"] = claim.sub_path
        mounts.append(mount)
    return mounts
