"""Command line, CPU limit and termination message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r1_runtime.errors import ModelLoadError, OptionError
from r1_runtime.serve import report
from r1_runtime.server.options import cpu_limit, parse_options, resolve_model


def test_served_names_default_to_the_model_and_may_repeat() -> None:
    assert parse_options(["--model-path", "bundled:demo"]).names == ("demo",)
    given = ["--model-path", "x", "--served-model-name", "a", "--served-model-name", "b"]
    assert parse_options(given).names == ("a", "b")


@pytest.mark.parametrize("dtype", ["Auto", "Float32", "BFloat16"])
def test_dtype_of_the_resource_is_accepted_in_any_case(dtype: str) -> None:
    assert parse_options(["--model-path", "x", "--dtype", dtype]).dtype == dtype.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model-path"),
        (["--model-path", "x", "--max-num-seqs", "0"], "--max-num-seqs is 0"),
        (["--model-path", "x", "--num-blocks", "-1"], "--num-blocks is -1"),
        (["--model-path", "x", "--max-model-len", "0"], "--max-model-len is 0"),
        (["--model-path", "x", "--port", "http"], "--port"),
        (["--model-path", "x", "--dtype", "int3"], "--dtype"),
        (["--model-path", "x", "--tensor-parallel", "2"], "--tensor-parallel"),
        (["--model-path", "x", "--block-size", "24"], "--block-size is 24.*multiple of 16"),
        (["--model-path", "x", "--block-size", "0"], "--block-size is 0; it must be at least 1"),
        (["--model-path", "x", "--backend", "gpu"], "--backend"),
        (["--model-path", "x", "--quantization", "fp8"], "--quantization"),
        (["--model-path", "x", "--kv-cache-dtype", "int2"], "--kv-cache-dtype"),
    ],
)
def test_invalid_option_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        parse_options(arguments)


def test_unknown_bundled_model_lists_the_existing_ones() -> None:
    with pytest.raises(ModelLoadError, match="choose one of: demo"):
        resolve_model("bundled:nothing")
    assert (resolve_model("bundled:demo") / "config.json").is_file()


def test_cpu_quota_of_both_cgroup_versions_limits_the_threads(tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    assert cpu_limit(tmp_path) == allowed
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_limit(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_limit(tmp_path) == allowed
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert cpu_limit(tmp_path) == 1


def test_error_is_written_to_stderr_and_the_termination_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    report(ModelLoadError("/models/x", "config.json is missing.", "mount it."), log)
    line = "ModelLoadError: /models/x: config.json is missing. Fix: mount it.\n"
    assert capsys.readouterr().err == line
    assert log.read_text() == line
