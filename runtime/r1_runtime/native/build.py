"""Build of the native library: `python -m r1_runtime.native.build [--all]`.

One compiler call per variant; without `--all` only the best variant of this processor is built. The
package's own build calls `build` for all variants (`hatch_build.py`).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from r1_runtime.native.variants import FOLDER, VARIANTS, supported_variants

SOURCES = Path(__file__).parent / "src"
_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno"),
    *("-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wno-psabi", "-s"),
)


def compiler() -> str | None:
    """Path of the C++ compiler: $CXX, g++ or clang++; None without one."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        path = name and shutil.which(name)
        if path:
            return path
    return None


def build(variants: Iterable[str], target: Path = FOLDER) -> list[Path]:
    """Compile the variants whose library is missing or older than a source.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    program = compiler()
    if program is None:
        raise RuntimeError("no C++ compiler; install g++ (Debian: apt-get install g++)")
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    target.mkdir(parents=True, exist_ok=True)
    built = []
    for name in variants:
        path = target / f"r1_native_{name}.so"
        if not path.is_file() or path.stat().st_mtime < newest:
            _compile(program, VARIANTS[name][1], path)
            built.append(path)
    return built


def compiler_for(variant: str) -> str | None:
    """Path of the compiler that can compile a variant: of this machine, or Debian's cross-compiler."""
    machine = VARIANTS[variant][0]
    if machine == platform.machine():
        return compiler()
    return shutil.which(f"{machine.replace('_', '-')}-linux-gnu-g++")


def check(variant: str) -> None:
    """Compile a variant without optimisation and without keeping it: seconds instead of a minute.

    Raises:
        RuntimeError: there is no compiler for it, or it fails.
    """
    program = compiler_for(variant)
    if program is None:
        raise RuntimeError(f"no C++ compiler for {VARIANTS[variant][0]}")
    flags = (*_FLAGS, *VARIANTS[variant][1], "-O0", "-Werror")
    _run([program, *flags, "-S", str(SOURCES / "interface.cpp"), "-o", os.devnull])


def _compile(program: str, flags: Iterable[str], path: Path) -> None:
    # Written beside the target and renamed, so that a running process keeps its library.
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".so", delete=False) as file:
        temporary = Path(file.name)
    try:
        _run([program, *_FLAGS, *flags, str(SOURCES / "interface.cpp"), "-o", str(temporary)])
    except RuntimeError:
        temporary.unlink()
        raise
    temporary.chmod(0o755)
    temporary.replace(path)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the native library of the CPU backend.")
    parser.add_argument("--all", action="store_true", help="all variants of this architecture")
    machine = platform.machine()
    every = [name for name, (needs, _, _) in VARIANTS.items() if needs == machine]
    names = every if parser.parse_args().all else list(supported_variants()[:1])
    try:
        built = build(names)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"built {path}\n" for path in built) or "up to date\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
