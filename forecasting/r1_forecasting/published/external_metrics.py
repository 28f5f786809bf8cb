"""Objects of ``external.metrics.k8s.io/v1beta1`` as values; pure.

An HPA requests one metric of one namespace and reads the sum of the items' values. Without a value
the response is a ``Status``, whose message the HPA shows in its condition and Events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from r1_forecasting.published.catalogue import Catalogue
from r1_forecasting.published.publication import INFERENCE_METRIC, InferenceName, Publication
from r1_forecasting.published.published_value import PublishedValue

GROUP = "external.metrics.k8s.io"
VERSION = "v1beta1"
GROUP_VERSION = f"{GROUP}/{VERSION}"
LABEL = "inference"
CLASS_LABEL = "class"

Document = dict[str, Any]


class MetricRequestRefused(Exception):
    """The response is a ``Status`` instead of a value."""

    def __init__(self, code: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> Document:
        """The ``Status`` object; its reason is Kubernetes' name of the code."""
        reasons = {
            HTTPStatus.BAD_REQUEST: "BadRequest",
            HTTPStatus.UNAUTHORIZED: "Unauthorized",
            HTTPStatus.FORBIDDEN: "Forbidden",
            HTTPStatus.NOT_FOUND: "NotFound",
            HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowed",
            HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
        }
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": reasons.get(self.code, "InternalError"),
            "code": int(self.code),
        }


def find_metric(
    catalogue: Catalogue, namespace: str, metric: str, selector: str
) -> tuple[Publication | InferenceName, dict[str, str]]:
    """Return the published forecast and its labels; raises `MetricRequestRefused`."""
    labels = _labels(selector)
    if metric == INFERENCE_METRIC:
        if labels.keys() - {CLASS_LABEL} != {LABEL}:
            raise MetricRequestRefused(
                HTTPStatus.BAD_REQUEST,
                f"labelSelector: {selector!r} needs to be {LABEL}=NAME of an R1Inference "
                f"(matchLabels: {{{LABEL}: NAME}} in an HPA); add {CLASS_LABEL}=Q1 for one "
                "priority class",
            )
        return InferenceName(namespace, labels[LABEL], labels.get(CLASS_LABEL)), labels
    found = catalogue.get((namespace, metric))
    if found is None:
        here = sorted(name for place, name in catalogue if place == namespace)
        raise MetricRequestRefused(
            HTTPStatus.NOT_FOUND,
            f"metric {metric} is not published in namespace {namespace}; published are "
            + ", ".join([*here, f"{INFERENCE_METRIC} (of R1Inferences)"]),
        )
    if labels:
        raise MetricRequestRefused(
            HTTPStatus.BAD_REQUEST,
            f"labelSelector: {selector!r} matches nothing, because {metric} has no labels; "
            "remove the selector",
        )
    return found, {}


def _labels(selector: str) -> dict[str, str]:
    """Parse a selector of ``key=value`` terms; raises `MetricRequestRefused` on others."""
    labels = {}
    for term in filter(None, (part.strip() for part in selector.split(","))):
        key, found, value = term.partition("=")
        key, value = key.strip(), value.removeprefix("=").strip()
        if not found or not value or not key or key.endswith("!") or " " in key + value:
            raise MetricRequestRefused(
                HTTPStatus.BAD_REQUEST, f"labelSelector: {term!r} needs to be of the form key=value"
            )
        labels[key] = value
    return labels


def value_list(metric: str, labels: Mapping[str, str], value: PublishedValue) -> Document:
    """The ``ExternalMetricValueList`` with one item; the value in thousandths."""
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": GROUP_VERSION,
        "metadata": {},
        "items": [
            {
                "metricName": metric,
                "metricLabels": dict(labels),
                "timestamp": datetime.fromtimestamp(value.observed_at, UTC).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
                "value": f"{round(value.value * 1000)}m",
            }
        ],
    }


def group() -> Document:
    """The ``APIGroup`` with its one version."""
    version = {"groupVersion": GROUP_VERSION, "version": VERSION}
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    }


def group_list() -> Document:
    """The ``APIGroupList`` with one group."""
    inner = {key: value for key, value in group().items() if key not in ("kind", "apiVersion")}
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [inner]}


def resource_list(catalogue: Iterable[tuple[str, str]]) -> Document:
    """The metrics as an ``APIResourceList``.

    The only verb is ``get``: the garbage collector and quota controllers iterate over every
    resource that can be listed or deleted.
    """
    names = sorted({INFERENCE_METRIC, *(name for _, name in catalogue)})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": GROUP_VERSION,
        "resources": [
            {
                "name": name,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            for name in names
        ],
    }
