"""Build the project's six images from images/*.Containerfile and load them into a cluster.

The same file builds with docker (base from a registry) and, as root, with buildah on a base from
debootstrap. Dependencies are a layer of their own, so a code change rebuilds a small layer only.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from r1_cluster.cluster import LocalCluster
from r1_cluster.commands import attempt, run
from r1_cluster.errors import BuildFailed, ClusterError
from r1_cluster.image_build.buildah import (
    buildah,
    ensure_buildah,
    image_id,
    remove_image,
    remove_pip_cache,
    storage_folder,
)
from r1_cluster.image_build.python_base import ensure_base
from r1_cluster.image_build.thin_transfer import write_new_layers
from r1_cluster.node import containers
from r1_cluster.paths import repository_root
from r1_cluster.programs.binaries import to_stderr
from r1_cluster.programs.build_progress import Report
from r1_cluster.providers import Cluster
from r1_common.file_lock import exclusive

PARTS = ("operator", "gateway", "forecaster", "runtime", "backtest", "runtime-cuda")
LOCAL_PARTS = PARTS[:-1]
"""The parts that a local cluster needs: its GPUs are simulated, and their pods compute on CPUs."""
THIN_PARTS = ("forecaster", "runtime", "backtest")
"""The parts whose dependencies may come from the node instead of the image."""
REGISTRY_PYTHON = "python:3.11-slim-bookworm"
LOCAL_PYTHON = "localhost/r1-python:dev"
HOST_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
PIP_SETTINGS = ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "TIMEOUT", "DEFAULT_TIMEOUT")


def image_name(part: str, *, thin: bool = False) -> str:
    """Return the name of a part's image. Raises ClusterError for an unknown part.

    Whole images have the names that the chart uses with `imageRegistry: localhost`. Thin images
    have a tag of their own. A node resolves `localhost` to itself, so no remote registry is
    contacted for a missing image.
    """
    if part not in PARTS:
        raise ClusterError(f"No image {part!r}. The images are {', '.join(PARTS)}.")
    tag = "thin" if thin and part in THIN_PARTS else metadata.version("r1-inference-operator")
    return f"localhost/r1-{part}:{tag}"


def build(part: str, *, thin: bool = False, report: Report = to_stderr) -> str:
    """Build the image of `part` and return its name; unchanged layers come from the cache.

    `thin` leaves the dependencies of forecaster, runtime and backtest out (see r1_cluster.image_build.site_packages);
    for the other two it changes nothing.
    Raises MissingTool without docker and without root, BuildFailed when a step fails.
    """
    image, root = image_name(part, thin=thin), repository_root()
    containerfile = root / "images" / f"{part}.Containerfile"
    if not containerfile.is_file():
        raise ClusterError(f"{containerfile} does not exist: images are built from a clone only.")
    started = time.monotonic()
    arguments = ["--file", str(containerfile), "--tag", image]
    if thin and part in THIN_PARTS:
        arguments += ["--build-arg", "DEPENDENCIES=no"]
    with _secrets() as secrets:
        for name, path in secrets.items():
            arguments += ["--secret", f"id={name},src={path}"]
        if docker_works():
            environment = os.environ | {"DOCKER_BUILDKIT": "1"}
            argv = ["docker", "build", *arguments, str(root)]
            run(argv, f"building {image} failed", environment=environment, error=BuildFailed)
        else:
            _build_with_buildah(image, arguments, containerfile, root, report)
    kind = "thin image" if thin and part in THIN_PARTS else "image"
    report(f"Built {kind} {image} in {time.monotonic() - started:.1f} s.")
    return image


def build_all(report: Report = to_stderr) -> list[str]:
    """Build the six whole images (25 GB of disk at the peak), then remove the build caches."""
    try:
        return [build(part, report=report) for part in PARTS]
    finally:
        if not docker_works():
            # Other builds keep temporary files there, so a running build must not lose them.
            with exclusive(
                storage_folder() / "build.lock",
                lambda: report("Waiting: another process builds images."),
            ):
                remove_pip_cache()


def _build_with_buildah(
    image: str, arguments: list[str], containerfile: Path, root: Path, report: Report
) -> None:
    base = ensure_base(report)
    with exclusive(
        storage_folder() / "build.lock", lambda: report("Waiting: another process builds images.")
    ):
        before = image_id(image)
        buildah(
            "build",
            "--layers",
            "--pull-never",
            f"--build-arg=BASE={base}",
            f"--ignorefile={containerfile}.dockerignore",
            *arguments,
            str(root),
            failure=f"building {image} failed",
        )
        if before not in (None, image_id(image)):
            # The previous image has lost its name; each build would leave one.
            remove_image(str(before))


def load(image: str, cluster: Cluster) -> None:
    """Load a built image into the cluster; only layers that its node lacks are transferred."""
    folder = storage_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="load-") as scratch:
        archive = Path(scratch, "image.tar")
        if not isinstance(cluster, LocalCluster) or built_by_docker(image):
            save(image, archive)
            cluster.load_image(archive)
            return
        note = cluster.settings.folder / "loaded" / image.replace("/", "_")
        wanted = identity(image)
        if note.is_file() and note.read_text() == wanted:
            return
        write_new_layers(image, archive, containers.blobs(cluster.init_pid))
        cluster.load_image(archive)
        note.parent.mkdir(exist_ok=True)
        note.write_text(wanted)


def built_by_docker(image: str) -> bool:
    """Return whether `image` is in docker's storage instead of buildah's."""
    return docker_works() and image != LOCAL_PYTHON


def load_python(cluster: Cluster) -> str:
    """Return the name of an image with Python 3.11 that pods of the cluster can use."""
    if not isinstance(cluster, LocalCluster):
        return REGISTRY_PYTHON
    base = ensure_base()
    buildah("tag", base, LOCAL_PYTHON, failure="naming the base image failed")
    load(LOCAL_PYTHON, cluster)
    return LOCAL_PYTHON


def save(image: str, archive: Path) -> None:
    """Write a built image as a docker archive (uncompressed: it is read once, right away)."""
    if built_by_docker(image):
        run(["docker", "save", "--output", str(archive), image], f"saving {image} failed")
    else:
        target = f"docker-archive:{archive}:{image}"
        buildah("push", image, target, failure=f"saving {image} failed")


def identity(image: str) -> str:
    """Return the id of an image, which changes with its content. Raises ClusterError before it is built."""
    if built_by_docker(image):
        argv = ["docker", "image", "inspect", "--format={{.Id}}", image]
        return run(argv, f"{image} is not built: run r1-cluster build-image").strip()
    ensure_buildah()
    found = image_id(image)
    if found is None:
        raise ClusterError(f"{image} is not built. Build it: r1-cluster build-image")
    return found


def docker_works() -> bool:
    """Return whether a Docker daemon responds."""
    if os.environ.get("R1_CLUSTER") == "local":
        return False
    try:
        return attempt(["docker", "info"]).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _secrets() -> Iterator[dict[str, Path]]:
    """Yield the files that a build may read and must not keep: pip's settings and the host's CAs."""
    bundles = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), *HOST_BUNDLES)
    bundle = next((Path(each) for each in bundles if each and Path(each).is_file()), None)
    lines = ["[global]", "disable-pip-version-check = true"]
    if bundle is not None:
        lines.append("cert = /run/secrets/ca")
    for setting in PIP_SETTINGS:
        if value := os.environ.get(f"PIP_{setting}"):
            lines.append(f"{setting.lower().replace('_', '-')} = {value}")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as configuration:
        configuration.write("\n".join(lines) + "\n")
        configuration.flush()
        secrets = {"pip": Path(configuration.name)}
        if bundle is not None:
            secrets["ca"] = bundle
        yield secrets
