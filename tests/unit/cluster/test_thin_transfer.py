"""An image moves as its manifest, its configuration and the layers that are not there yet."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from r1_cluster.image_build.thin_transfer import NAME_ANNOTATION, pack

IMAGE = "localhost/r1-operator:dev"


def keep(folder: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return f"sha256:{digest}"


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a folder as buildah writes it, and the digests of base, dependencies and code."""
    folder = tmp_path / "layers"
    folder.mkdir()
    layers = [keep(folder, content) for content in (b"base", b"dependencies", b"code")]
    config = keep(folder, b"{}")
    manifest = {
        "config": {"digest": config},
        "layers": [{"digest": digest} for digest in layers],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder, layers


def blobs(archive: Path) -> set[str]:
    with tarfile.open(archive) as packed:
        return {name.split("/")[-1] for name in packed.getnames() if name.startswith("blobs/")}


def test_layers_on_the_node_are_not_sent(exported: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, (base, dependencies, code) = exported
    pack(folder, IMAGE, tmp_path / "a.tar", {base, dependencies})
    carried = blobs(tmp_path / "a.tar")
    assert len(carried) == 3  # manifest, configuration, code
    assert code.removeprefix("sha256:") in carried
    assert base.removeprefix("sha256:") not in carried


def test_an_empty_node_receives_every_layer_once(
    exported: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = exported
    pack(folder, IMAGE, tmp_path / "a.tar", set())
    assert len(blobs(tmp_path / "a.tar")) == 5


def test_the_archive_names_its_image_and_its_manifest(
    exported: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = exported
    pack(folder, IMAGE, tmp_path / "a.tar", set())
    with tarfile.open(tmp_path / "a.tar") as packed:
        index = packed.extractfile("index.json")
        assert index is not None
        (descriptor,) = json.loads(index.read())["manifests"]
        manifest = packed.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))
        assert manifest is not None
        content = manifest.read()
    assert descriptor["annotations"][NAME_ANNOTATION] == IMAGE
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert descriptor["size"] == len(content)
