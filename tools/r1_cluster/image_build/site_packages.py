"""Thin images take their libraries from the node: torch alone is 5 GB in an image.

The virtual environment's site-packages becomes a read-only PersistentVolume of type hostPath
and a claim in the namespace. A pod may not mount a hostPath itself at the `restricted` level of
Pod Security; a claim it may.

Compiled modules fit one minor version of Python only, so the environment must run the version
that the thin images have; `check_python` says so before anything is mounted.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

from r1_cluster.errors import ClusterError
from r1_cluster.image_build.python_base import PYTHON

CLAIM = "r1-site-packages"
MOUNT_PATH = "/opt/site-packages"
PYTHON_PATH = f"/opt/app:{MOUNT_PATH}"


def site_packages_folder() -> Path:
    """Return the real path of the running environment's site-packages."""
    return Path(sysconfig.get_path("purelib")).resolve()


def fits_thin_images(version: tuple[int, int] = sys.version_info[:2]) -> bool:
    """Return whether modules of this Python load in the thin images'."""
    return version == PYTHON


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raise ClusterError unless `fits_thin_images(version)`."""
    if not fits_thin_images(version):
        have, want = (".".join(map(str, each)) for each in (version, PYTHON))
        raise ClusterError(
            f"The virtual environment has Python {have}, the thin images {want}. Create it with "
            f"Python {want}, or build whole images (r1-cluster build-image --all)."
        )


def manifests(namespace: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """Return the volume and the claim through which pods of `namespace` see `folder`.

    `folder` is this environment's site-packages if not given; it must be on the node.
    Raises ClusterError when this Python's modules would not load in the images.
    """
    if folder is None:
        check_python()
        folder = site_packages_folder()
    volume = f"{CLAIM}-{namespace}"
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **access,
                "capacity": {"storage": "1Gi"},  # a claim must name a size; nothing counts it
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": CLAIM},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": namespace},
            "spec": {
                **access,
                "volumeName": volume,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ]


def volumes() -> list[dict[str, Any]]:
    """Return the entry of a PodSpec's `volumes`."""
    return [{"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}]


def volume_mounts() -> list[dict[str, Any]]:
    """Return the entry of a container's `volumeMounts`."""
    return [{"name": CLAIM, "mountPath": MOUNT_PATH, "readOnly": True}]


def environment() -> list[dict[str, Any]]:
    """Return the entry of a container's `env`."""
    return [{"name": "PYTHONPATH", "value": PYTHON_PATH}]


def pod_template(container: str = "engine") -> dict[str, Any]:
    """Return the `spec.template` of an R1Inference whose engine image is thin."""
    patch = {"name": container, "env": environment(), "volumeMounts": volume_mounts()}
    return {"spec": {"volumes": volumes(), "containers": [patch]}}


def chart_values() -> dict[str, Any]:
    """Return the chart's values under `forecaster` and `backtest` when their images are thin."""
    return {
        "extraEnv": environment(),
        "extraVolumes": volumes(),
        "extraVolumeMounts": volume_mounts(),
    }
