"""A virtual environment for an owner's package, made once and kept in the cache outside the clone.

These packages are nobody's dependency here: their needs would fight with ours, and whoever
installs the project has no use for them. What is installed is pinned below, and the folder is
named after the pins, so another version is another folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from r1_common.cache_folder import cache_root
from r1_common.file_lock import exclusive

_INSTALL_TIMEOUT_SECONDS = 900


class NotInstalled(Exception):
    """An owner's package cannot be installed here; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class ReferenceProgram:
    """Whose package it is, and what is installed: `alone` without the needs it declares."""

    name: str
    alone: tuple[str, ...]
    needs: tuple[str, ...]


DYNAMO = ReferenceProgram(
    "ai-dynamo 1.3.1",
    # Declared needs are those of a serving cluster; its planner runs on the ones below.
    alone=("ai-dynamo==1.3.1", "ai-dynamo-runtime==1.3.1"),
    needs=(
        "pmdarima==2.1.1", "prophet==1.5.0", "filterpy==2.0.0", "scikit-learn==1.9.1",
        "pydantic==2.14.4", "pyyaml==6.0.4", "msgspec==0.22.0", "kubernetes==37.0.2",
        "prometheus-api-client==0.7.2", "aiohttp==3.14.5", "numpy==2.4.6", "pandas==3.1.1",
    ),
)  # fmt: skip
RAY = ReferenceProgram("ray 2.60.0", alone=(), needs=("ray[serve]==2.60.0",))


def folder_of(owner: ReferenceProgram) -> Path:
    """Return where the owner's environment lies, whether or not it is there."""
    told = "\n".join([*owner.alone, "", *owner.needs, sys.version.split()[0]])
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    return cache_root() / "owners" / f"{owner.name.replace(' ', '-')}-{key}"


def interpreter_of(owner: ReferenceProgram) -> Path | None:
    """Return the environment's interpreter, None where it has not been made. Downloads nothing."""
    folder = folder_of(owner)
    return folder / "bin" / "python" if (folder / "ready").is_file() else None


def ensure_installed(owner: ReferenceProgram) -> Path:
    """Return the environment's interpreter; installs the packages where they are not there yet.

    Raises NotToBeHad, with what the installer said last.
    """
    with exclusive(cache_root() / "locks" / f"{folder_of(owner).name}.lock"):
        there = interpreter_of(owner)
        if there is not None:
            return there
        folder = folder_of(owner)
        print(f"installing {owner.name} into {folder} ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        python = folder / "bin" / "python"
        _uv(owner, "venv", "--quiet", "--python", sys.executable, str(folder))
        install = ("pip", "install", "--quiet", "--python", str(python))
        if owner.alone:
            _uv(owner, *install, "--no-deps", *owner.alone)
        _uv(owner, *install, *owner.needs)
        (folder / "ready").touch()
        return python


def _uv(owner: ReferenceProgram, *arguments: str) -> None:
    try:
        uv = Path(sys.executable).with_name("uv")  # `make setup` puts it beside the interpreter
        subprocess.run(
            [str(uv) if uv.is_file() else "uv", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_SECONDS,
            env={**os.environ, "UV_HTTP_TIMEOUT": os.environ.get("UV_HTTP_TIMEOUT", "60")},
        )
    except FileNotFoundError:
        raise NotInstalled(f"{owner.name} cannot be had: uv is missing; run make setup") from None
    except subprocess.TimeoutExpired:
        said = f"the installation took longer than {_INSTALL_TIMEOUT_SECONDS} s"
        raise NotInstalled(f"{owner.name} cannot be had: {said}") from None
    except subprocess.CalledProcessError as failed:
        lines = [line.strip() for line in failed.stderr.splitlines() if line.strip()]
        said = " ".join(lines)[:300] or f"uv ended with {failed.returncode}"
        raise NotInstalled(f"{owner.name} cannot be had: {said}") from None
