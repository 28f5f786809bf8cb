"""Revision of the pods: which changes roll them.

A change of the spec rolls the pods; an upgrade of the operator does not. A newer operator has a newer default
image and may have another pod layout. So both (the *rendering*) are annotated on the Deployment, with a
hash of all settings of the owner and the site. While the hash is the same, the annotated rendering is used
again. The next change by the owner takes the newest rendering. The annotation `deepseek.ai/refresh` on the
resource is part of the hash: changing it requests the newest rendering alone.

The hash has a version. An annotation of another version cannot be compared: the rendering stays and the
annotation is renewed, so that a change of the algorithm rolls no pods. Default values are not hashed: a
field that a later version adds does not change the hash.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_operator.api.fields.declare import to_json
from r1_operator.api.names import Annotation
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.snapshot import ABSENT, Defaults, Found, Object

HASH_VERSION = "1"
RENDERER = 1
"""The newest pod layout of `workload/pod.py`."""
RENDERERS = frozenset({1})
"""Layouts that it still builds; an annotation with another one rolls the pods."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """Pod layout and default image of an operator release."""

    renderer: int
    runtime_image: str


def revision(resource: R1Inference, defaults: Defaults) -> str:
    """Return the hash of all settings of owner and site that affect a pod."""
    spec = resource.spec
    settings = {
        "name": resource.name,
        "model": to_json(spec.model, defaults=False),
        "engine": to_json(spec.engine, defaults=False),
        "runtime": to_json(spec.runtime, defaults=False),
        "resources": to_json(spec.resources, defaults=False),
        "progressDeadlineSeconds": spec.rollout.progress_deadline_seconds,
        "drainSeconds": spec.rollout.drain_seconds,
        "template": to_json(spec.template, defaults=False),
        "defaultSource": to_json(defaults.model_source, defaults=False),
        "defaultTemplate": defaults.template,
        "imagePullPolicy": defaults.image_pull_policy,
        "refresh": resource.annotations.get(Annotation.REFRESH, ""),
    }
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rendering_for(
    resource: R1Inference, defaults: Defaults, deployment: Found, image: str
) -> Rendering:
    """Return the annotated rendering while nothing changed, else the newest, with the default `image`."""
    newest = Rendering(RENDERER, image)
    if deployment is ABSENT:
        return newest
    stamp = _stamp(deployment)
    renderer, applied = stamp.get(Annotation.RENDERER), stamp.get(Annotation.RUNTIME_IMAGE)
    if not applied or renderer not in {str(known) for known in RENDERERS}:
        return newest
    if not is_applied(resource, defaults, deployment):
        return newest
    return Rendering(int(renderer), applied)


def is_applied(resource: R1Inference, defaults: Defaults, deployment: Found) -> bool:
    """Whether the Deployment was built from these settings, by its annotations."""
    if deployment is ABSENT:
        return False
    stamp = _stamp(deployment)
    if stamp.get(Annotation.REVISION_VERSION) != HASH_VERSION:
        return Annotation.REVISION_VERSION in stamp
    return bool(stamp.get(Annotation.REVISION) == revision(resource, defaults))


def _stamp(deployment: Object) -> Mapping[str, Any]:
    return (deployment.get("metadata") or {}).get("annotations") or {}


def stamps(resource: R1Inference, defaults: Defaults, rendering: Rendering) -> dict[str, str]:
    """Return the annotations of the Deployment (on its pods they would roll them)."""
    return {
        Annotation.REVISION.value: revision(resource, defaults),
        Annotation.REVISION_VERSION.value: HASH_VERSION,
        Annotation.RENDERER.value: str(rendering.renderer),
        Annotation.RUNTIME_IMAGE.value: rendering.runtime_image,
    }
