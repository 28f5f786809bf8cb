"""A small Debian with Python 3.11, made by debootstrap: the base of images without a registry.

It stands in for `python:3.11-slim-bookworm`, whose place it takes in the Containerfiles' BASE.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import BuildFailed
from r1_cluster.image_build.buildah import buildah, ensure_buildah, image_id, storage_folder
from r1_cluster.programs.binaries import to_stderr
from r1_cluster.programs.build_progress import Report
from r1_common.file_lock import exclusive

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,libgomp1"
PYTHON = (3, 11)  # what the suite's python3 is
# What a container never reads; a sixth of the size.
USELESS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
)
RECIPE = "1"


def base_image() -> str:
    """Return the name of the base image; the tag is the key of its pins."""
    pins = "\n".join((SUITE, PACKAGES, *USELESS, RECIPE))
    return f"localhost/r1-python:{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def ensure_base(report: Report = to_stderr) -> str:
    """Return the name of the base image in our storage, making it if it is not there.

    A finished archive in the cache is read back; else debootstrap runs for one to two minutes.
    """
    ensure_buildah()
    image = base_image()
    archive = storage_folder() / f"base-{image.rsplit(':', 1)[1]}.tar"
    with exclusive(
        storage_folder() / "base.lock",
        lambda: report("Waiting: another process builds the base image."),
    ):
        if image_id(image) is None:
            if archive.is_file():
                _read_back(archive, image)
            else:
                _bootstrap(archive, image, report)
    return image


def _read_back(archive: Path, image: str) -> None:
    pulled = buildah("pull", f"oci-archive:{archive}", failure=f"{archive} cannot be read")
    buildah("tag", pulled.split()[-1], image, failure="the base image could not be named")


def _bootstrap(archive: Path, image: str, report: Report) -> None:
    report("Building the Python base image with debootstrap, once per machine: 1 to 2 min.")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=storage_folder(), prefix="debootstrap-") as scratch:
        root, layer = Path(scratch, "root"), Path(scratch, "root.tar")
        run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)],
            "debootstrap failed; check that the Debian archive is reachable",
            error=BuildFailed,
        )
        for useless in USELESS:
            shutil.rmtree(root / useless, ignore_errors=True)
            (root / useless).mkdir(parents=True)
        argv = [
            "tar",
            "-C",
            str(root),
            "--numeric-owner",
            "--exclude=./dev/*",
            "-cf",
            str(layer),
            ".",
        ]
        run(argv, "packing the base image failed")
        container = buildah("from", "scratch", failure="buildah from failed").strip()
        try:
            buildah("add", container, str(layer), "/", failure="buildah add failed")
            path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
            settings = ["--env", path, "--env", "LANG=C.UTF-8", "--cmd", "python3"]
            buildah("config", *settings, container, failure="buildah config failed")
            buildah("commit", container, image, failure="buildah commit failed")
        finally:
            buildah("rm", container, failure="buildah rm failed")
    partial = archive.with_suffix(".partial")
    buildah("push", image, f"oci-archive:{partial}", failure="the base image could not be saved")
    partial.rename(archive)
    report(f"Built base image {image} in {time.monotonic() - started:.0f} s.")
