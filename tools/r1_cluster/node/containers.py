"""Images for a node's containerd, and the pause image, which needs no image tool."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from r1_cluster.errors import ClusterError
from r1_cluster.node.namespaces import ctr


def write_pause_archive(target: Path, program: Path, image: str) -> None:
    """Write a docker-archive of `image` that holds `program` as /pause and nothing else."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as source:
            archive.addfile(entry, source)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    members = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(target, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def import_archive(init_pid: int, archive: Path) -> None:
    """Load an OCI or docker archive into the node. Raises ClusterError if there is none."""
    if not archive.is_file():
        raise ClusterError(f"Image archive {archive} does not exist. Build the image first.")
    ctr(init_pid, "images", "import", "--all-platforms", str(archive.resolve()))


def image_names(init_pid: int) -> list[str]:
    """Return the names of the images that the node has."""
    names = ctr(init_pid, "images", "list", "--quiet").split()
    return sorted(name for name in names if not name.startswith("sha256:"))


def blobs(init_pid: int) -> list[str]:
    """Return the digests of the content that the node has: layers, configurations, manifests."""
    return ctr(init_pid, "content", "list", "--quiet").split()
