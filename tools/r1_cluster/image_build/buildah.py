"""buildah with a storage of its own under the cache, so that it meets no other container tool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from r1_cluster.commands import attempt, run
from r1_cluster.errors import BuildFailed
from r1_cluster.programs.debian import IMAGE_PROGRAMS, ensure_packages, require_root
from r1_common.cache_folder import cache_root


def storage_folder() -> Path:
    """Return the folder of buildah's images, layers and pip caches."""
    return cache_root() / "images"


def ensure_buildah() -> None:
    """Raise MissingTool unless images can be built here."""
    require_root("Building images with buildah")
    ensure_packages(IMAGE_PROGRAMS)


def command(*arguments: str) -> list[str]:
    """Return the command line of `buildah arguments...` on our storage."""
    storage = storage_folder()
    return ["buildah", f"--root={storage}/storage", f"--runroot={storage}/run", *arguments]


def environment() -> dict[str, str]:
    """Return buildah's environment: chroot isolation works where runc cannot, as root."""
    temporary = storage_folder() / "tmp"  # cache mounts live here too
    temporary.mkdir(parents=True, exist_ok=True)
    own = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay", "TMPDIR": str(temporary)}
    return os.environ | own


def buildah(*arguments: str, failure: str) -> str:
    """Run buildah and return its stdout. Raises BuildFailed with the end of its output."""
    return run(command(*arguments), failure, environment=environment(), error=BuildFailed)


def image_id(image: str) -> str | None:
    """Return the id of `image` in our storage, or None."""
    argv = command("inspect", "--type=image", "--format={{.FromImageID}}", image)
    done = attempt(argv, environment=environment())
    return done.stdout.strip() if done.returncode == 0 else None


def remove_image(image: str) -> None:
    """Remove an image by id; one that another image builds on stays."""
    attempt(command("rmi", image), environment=environment())


def remove_pip_cache() -> None:
    """Drop the wheels that builds kept for each other: several gigabytes with torch."""
    shutil.rmtree(storage_folder() / "tmp", ignore_errors=True)
