"""Scrape targets for Prometheus: annotated pods of the real node.

Debian builds Prometheus without Kubernetes discovery. This process lists the node's pods every
second (a list that the API server returns from memory, without thousands of simulated pods) and
writes Prometheus' file_sd format when it changes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from r1_cluster.control_plane.apiserver_probe import fetch

LIST_SECONDS = 1.0
ANNOTATION = "prometheus.io/"
LABELS = {"app": "app.kubernetes.io/name", "app_instance": "app.kubernetes.io/instance"}


def build_targets(pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one file_sd entry per running pod with `prometheus.io/scrape: "true"` and a port."""
    entries = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status", {})
        annotations = metadata.get("annotations", {})
        port = annotations.get(f"{ANNOTATION}port", "")
        wanted = annotations.get(f"{ANNOTATION}scrape") == "true" and port.isdecimal()
        if not wanted or status.get("phase") != "Running" or not status.get("podIP"):
            continue
        labels = {
            "namespace": metadata["namespace"],
            "pod": metadata["name"],
            "__metrics_path__": annotations.get(f"{ANNOTATION}path", "/metrics"),
        }
        own = metadata.get("labels", {})
        labels |= {label: own[key] for label, key in LABELS.items() if key in own}
        entries.append({"targets": [f"{status['podIP']}:{port}"], "labels": labels})
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))


def main() -> None:
    """Keep the file named by the third argument up to date until killed."""
    kubeconfig, node, target = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    path = f"/api/v1/pods?resourceVersion=0&fieldSelector=spec.nodeName%3D{node}"
    written: str | None = None
    while True:
        body = fetch(kubeconfig, path, timeout=5.0)
        if body is not None:  # no answer: what was true a second ago is the best we know
            text = json.dumps(build_targets(json.loads(body)["items"]), indent=1)
            if text != written:
                partial = target.with_suffix(".partial")
                partial.write_text(text)
                partial.rename(target)
                written = text
        time.sleep(LIST_SECONDS)


if __name__ == "__main__":
    main()
