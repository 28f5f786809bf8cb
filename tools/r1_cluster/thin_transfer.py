"""Moves an image from buildah into a node and carries only the layers that the node lacks.

buildah keeps an OCI layout per image, uncompressed, in which layers of before are not written
again; the archive for containerd then holds the manifest, the configuration and what is new.
A code change moves about a megabyte instead of the whole image.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r1_cluster.buildah import buildah, storage_folder

NAME_ANNOTATION = "io.containerd.image.name"


def write_new_layers(image: str, archive: Path, present: Iterable[str]) -> None:
    """Write an OCI archive of `image` without the blobs `present` (digests, "sha256:...")."""
    layout = storage_folder() / "layouts" / image.replace("/", "_").replace(":", "_")
    layout.parent.mkdir(parents=True, exist_ok=True)
    argv = ["push", "--disable-compression", "--quiet", image, f"oci:{layout}:current"]
    buildah(*argv, failure=f"{image} could not be read")
    pack(layout, image, archive, set(present))


def pack(layout: Path, image: str, archive: Path, present: set[str]) -> None:
    """Pack the OCI layout's newest image under the name `image`; drop blobs nothing refers to."""
    index = json.loads((layout / "index.json").read_text())
    descriptor = index["manifests"][-1]
    manifest = _blob(layout, descriptor["digest"])
    needed = [descriptor, manifest["config"], *manifest["layers"]]
    named = {
        "schemaVersion": 2,
        "manifests": [descriptor | {"annotations": {NAME_ANNOTATION: image}}],
    }
    with tarfile.open(archive, "w") as output:
        _add(output, "oci-layout", (layout / "oci-layout").read_bytes())
        _add(output, "index.json", json.dumps(named).encode())
        # The manifest goes even if it is there: it is small, and an import without is none.
        for blob in needed:
            if blob["digest"] == descriptor["digest"] or blob["digest"] not in present:
                path = f"blobs/{blob['digest'].replace(':', '/')}"
                output.add(layout / path, path)
    kept = {blob["digest"].removeprefix("sha256:") for blob in needed}
    for file in (layout / "blobs" / "sha256").iterdir():
        if file.name not in kept:
            file.unlink()


def _blob(layout: Path, digest: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    return content


def _add(output: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    output.addfile(entry, io.BytesIO(content))
