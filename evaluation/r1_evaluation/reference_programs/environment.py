"""Virtual environments of the reference programs, created once in the cache outside the clone.

These packages are no dependencies of the project: their requirements conflict with the project's.
Versions are pinned below. The folder's name is a hash of the pins, so another version gets another
folder.
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
    """A reference program is not installed and cannot be; the message names the cause in one line."""


@dataclass(frozen=True, slots=True)
class ReferenceProgram:
    """A reference program and its pins: `alone` is installed without its declared requirements."""

    name: str
    alone: tuple[str, ...]
    needs: tuple[str, ...]


DYNAMO = ReferenceProgram(
    "ai-dynamo 1.3.1",
    # Its declared requirements are those of a serving cluster; the planner needs these.
    alone=("ai-dynamo==1.3.1", "ai-dynamo-runtime==1.3.1"),
    needs=(
        "pmdarima==2.1.1", "prophet==1.5.0", "filterpy==2.0.0", "scikit-learn==1.9.1",
        "pydantic==2.14.4", "pyyaml==6.0.4", "msgspec==0.22.0", "kubernetes==37.0.2",
        "prometheus-api-client==0.7.2", "aiohttp==3.14.5", "numpy==2.4.6", "pandas==3.1.1",
    ),
)  # fmt: skip
RAY = ReferenceProgram("ray 2.60.0", alone=(), needs=("ray[serve]==2.60.0",))


def folder_of(program: ReferenceProgram) -> Path:
    """Return the folder of a program's environment, whether or not it exists."""
    pins = "\n".join([*program.alone, "", *program.needs, sys.version.split()[0]])
    key = hashlib.sha256(pins.encode()).hexdigest()[:16]
    return cache_root() / "reference-programs" / f"{program.name.replace(' ', '-')}-{key}"


def interpreter_of(program: ReferenceProgram) -> Path | None:
    """Return the environment's interpreter, None without an environment. Downloads nothing."""
    folder = folder_of(program)
    return folder / "bin" / "python" if (folder / "ready").is_file() else None


def ensure_installed(program: ReferenceProgram) -> Path:
    """Return the environment's interpreter; installs the packages when they are missing.

    Raises NotInstalled with the installer's last message.
    """
    with exclusive(cache_root() / "locks" / f"{folder_of(program).name}.lock"):
        installed = interpreter_of(program)
        if installed is not None:
            return installed
        folder = folder_of(program)
        print(f"installing {program.name} into {folder} ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        python = folder / "bin" / "python"
        _uv(program, "venv", "--quiet", "--python", sys.executable, str(folder))
        install = ("pip", "install", "--quiet", "--python", str(python))
        if program.alone:
            _uv(program, *install, "--no-deps", *program.alone)
        _uv(program, *install, *program.needs)
        (folder / "ready").touch()
        return python


def _uv(program: ReferenceProgram, *arguments: str) -> None:
    try:
        uv = Path(sys.executable).with_name("uv")  # `make setup` installs it beside the interpreter
        subprocess.run(
            [str(uv) if uv.is_file() else "uv", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_SECONDS,
            env={**os.environ, "UV_HTTP_TIMEOUT": os.environ.get("UV_HTTP_TIMEOUT", "60")},
        )
    except FileNotFoundError:
        raise NotInstalled(
            f"{program.name} cannot be installed: uv is missing; run make setup"
        ) from None
    except subprocess.TimeoutExpired:
        cause = f"the installation took longer than {_INSTALL_TIMEOUT_SECONDS} s"
        raise NotInstalled(f"{program.name} cannot be installed: {cause}") from None
    except subprocess.CalledProcessError as failed:
        lines = [line.strip() for line in failed.stderr.splitlines() if line.strip()]
        cause = " ".join(lines)[:300] or f"uv exited with {failed.returncode}"
        raise NotInstalled(f"{program.name} cannot be installed: {cause}") from None
