"""When pods are replaced, and when they are not.

Pods must roll when their owner changes what they run, and must not roll because the
operator was upgraded. A newer operator has a newer default image and may lay out the pod
differently, so both (the *rendering*) are stamped on the Deployment together with a hash
of everything the owner or the site decides. While the hash stays the same the stamped
rendering is used again; the next change by the owner takes the newest. The annotation
`deepseek.ai/refresh` on the resource is part of the hash: changing it is how an owner
asks for the newest rendering and nothing else.

The hash has a version. A stamp of another version cannot be compared: the rendering is
kept and the stamp renewed, so that a change of the algorithm rolls nothing either. Values
that are the schema's defaults are not hashed: a field that a later version adds changes
no hash.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_operator.api.declare import to_json
from r1_operator.api.names import Annotation
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.snapshot import ABSENT, Defaults, Found, Object

HASH_VERSION = "1"
RENDERER = 1
"""The newest layout of a pod that `children/pod.py` knows."""
RENDERERS = frozenset({1})
"""Layouts that it can still make; a stamp with another one rolls."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What an operator release brings into a pod: its layout and its default image."""

    renderer: int
    runtime_image: str


def revision(resource: R1Inference, defaults: Defaults) -> str:
    """The hash of every decision of the owner and the site that shapes a pod."""
    spec = resource.spec
    decisions = {
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
    text = json.dumps(decisions, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rendering_for(resource: R1Inference, defaults: Defaults, deployment: Found) -> Rendering:
    """The stamped rendering while nothing changed, else the newest."""
    newest = Rendering(RENDERER, defaults.runtime_image)
    if deployment is ABSENT:
        return newest
    stamp = _stamp(deployment)
    renderer, image = stamp.get(Annotation.RENDERER), stamp.get(Annotation.RUNTIME_IMAGE)
    if not image or renderer not in {str(known) for known in RENDERERS}:
        return newest
    if not is_applied(resource, defaults, deployment):
        return newest
    return Rendering(int(renderer), image)


def is_applied(resource: R1Inference, defaults: Defaults, deployment: Found) -> bool:
    """Whether the Deployment was made from these decisions, as far as its stamp can tell."""
    if deployment is ABSENT:
        return False
    stamp = _stamp(deployment)
    if stamp.get(Annotation.REVISION_VERSION) != HASH_VERSION:
        return Annotation.REVISION_VERSION in stamp
    return bool(stamp.get(Annotation.REVISION) == revision(resource, defaults))


def _stamp(deployment: Object) -> Mapping[str, Any]:
    return (deployment.get("metadata") or {}).get("annotations") or {}


def stamps(resource: R1Inference, defaults: Defaults, rendering: Rendering) -> dict[str, str]:
    """The annotations of the Deployment (not of its pods: a stamp must not roll them)."""
    return {
        Annotation.REVISION.value: revision(resource, defaults),
        Annotation.REVISION_VERSION.value: HASH_VERSION,
        Annotation.RENDERER.value: str(rendering.renderer),
        Annotation.RUNTIME_IMAGE.value: rendering.runtime_image,
    }
