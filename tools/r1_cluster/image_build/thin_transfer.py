"""Moves an image from buildah into a node and carries only the layers that the node lacks.

Layers stay uncompressed, so that a layer has the same digest each time it is read; the archive
for containerd then holds the manifest, the configuration and what is new. A code change moves
about a megabyte, and no core is spent on gzip.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from r1_cluster.image_build.buildah import buildah

NAME_ANNOTATION = "io.containerd.image.name"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write_new_layers(image: str, archive: Path, present: Iterable[str]) -> None:
    """Write an OCI archive of `image` without the blobs `present` (digests, "sha256:...").

    Uses a folder beside `archive`, which must have room for the whole image.
    """
    folder = archive.parent / "layers"
    argv = ["push", "--disable-compression", "--quiet", image, f"dir:{folder}"]
    buildah(*argv, failure=f"{image} could not be read")
    pack(folder, image, archive, set(present))


def pack(folder: Path, image: str, archive: Path, present: set[str]) -> None:
    """Pack the image that lies in `folder` (the dir: transport's form) under the name `image`."""
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    descriptor = {
        "mediaType": manifest.get("mediaType", OCI_MANIFEST),
        "digest": f"sha256:{hashlib.sha256(text).hexdigest()}",
        "size": len(text),
        "annotations": {NAME_ANNOTATION: image},
    }
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    with tarfile.open(archive, "w") as output:
        _add(output, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(output, "index.json", json.dumps(index).encode())
        # The manifest goes even if it is there: it is small, and an import without is none.
        _add(output, _path(str(descriptor["digest"])), text)
        for digest in {each["digest"] for each in (manifest["config"], *manifest["layers"])}:
            if digest not in present:
                output.add(folder / digest.removeprefix("sha256:"), _path(digest))


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(output: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    output.addfile(entry, io.BytesIO(content))
