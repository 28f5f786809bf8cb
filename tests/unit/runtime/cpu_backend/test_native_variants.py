"""The native library's variants compile, and an installation without a compiler serves without it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from r1_runtime.native.build import SOURCES, check, compiler, compiler_for
from r1_runtime.native.variants import VARIANTS

REPOSITORY = Path(__file__).parents[4]
LIBRARY = "r1_runtime/native/lib/"


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_variant_compiles_also_where_this_processor_cannot_run_it(variant: str) -> None:
    if compiler_for(variant) is None:
        pytest.skip(f"no compiler for {VARIANTS[variant][0]} (Debian: g++-aarch64-linux-gnu)")
    check(variant)


def test_a_variant_of_another_architecture_is_not_compiled_for_this_one() -> None:
    foreign = [name for name, (machine, _, _) in VARIANTS.items() if machine != platform.machine()]
    assert all(compiler_for(name) != compiler() for name in foreign)


def test_a_compiler_that_fails_is_reported_with_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "g++"
    program.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    name = next(name for name, (machine, _, _) in VARIANTS.items() if machine == platform.machine())
    with pytest.raises(RuntimeError, match="failed:\nno such option"):
        check(name)


@pytest.fixture(scope="module")
def wheel_without_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built where PATH is empty."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file() and not name.startswith(("tests/", "docs/", "out/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, source / name)
    empty = tmp_path_factory.mktemp("empty")
    environment = {key: value for key, value in os.environ.items() if key != "CXX"}
    target = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=source,
        env=environment | {"PATH": str(empty)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No C++ compiler" in done.stdout + done.stderr
    (built,) = target.iterdir()
    return built


def test_without_a_compiler_the_wheel_has_the_sources_and_no_library(
    wheel_without_compiler: Path,
) -> None:
    assert wheel_without_compiler.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel_without_compiler).namelist()
    assert not [name for name in names if name.startswith(LIBRARY)]
    assert {f"r1_runtime/native/src/{path.name}" for path in SOURCES.iterdir()} <= set(names)


def test_an_installation_without_a_compiler_serves_by_the_reference_backend_and_says_so(
    wheel_without_compiler: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel_without_compiler).extractall(tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "r1_runtime.serve", "--model-path", "bundled:demo"),
            "--explain-plan",
        ],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "The reference backend serves, several times slower: no native library" in done.stdout
    assert "build it with: python -m r1_runtime.native.build" in done.stdout
