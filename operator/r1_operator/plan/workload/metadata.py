"""Names, labels and owner that all children share."""

from collections.abc import Mapping
from typing import Any

from r1_operator.api import names
from r1_operator.api.names import Label
from r1_operator.api.v1 import R1Inference


def selector(resource: R1Inference) -> dict[str, str]:
    """Return the pod selector; immutable in a Deployment, hence only one label."""
    return {Label.RESOURCE.value: resource.name}


def selector_text(resource: R1Inference) -> str:
    """Return the selector as a string, for `status.selector`."""
    return ",".join(f"{key}={value}" for key, value in selector(resource).items())


def labels(resource: R1Inference) -> dict[str, str]:
    """Return the labels of every child and pod."""
    return {
        Label.NAME.value: names.SINGULAR,
        Label.INSTANCE.value: resource.name,
        Label.MANAGED_BY.value: names.FIELD_MANAGER,
        **selector(resource),
    }


def owner_reference(resource: R1Inference) -> dict[str, Any]:
    """Return the controller reference, by which the garbage collector deletes the children."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": resource.name,
        "uid": resource.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def child_metadata(
    resource: R1Inference,
    name: str | None = None,
    *,
    extra_labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the metadata of a child; its name is the resource's unless given.

    Extra labels never replace the operator's own, which select the children.
    """
    metadata: dict[str, Any] = {
        "name": name or resource.name,
        "namespace": resource.namespace,
        "labels": dict(extra_labels or {}) | labels(resource),
        "ownerReferences": [owner_reference(resource)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return metadata
