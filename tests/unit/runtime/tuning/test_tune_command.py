"""`r1 tune` on the bundled demo model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1_runtime.tune import main
from r1_runtime.tuning.registry import all_techniques

COMMON = ["--texts", "sample", "--size", "tiny", "--threads", "1"]


def test_tune_writes_a_manifest_that_keeps_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned.yaml"
    names = "INT8 weights,FP16 cache,prefix cache"
    given = [
        "bundled:demo", *COMMON, "--budget", "quality=50%", "--objective", "bytes",
        "--techniques", names, "--results", str(tmp_path / "results"), "--out", str(out),
    ]  # fmt: skip
    assert main([*given, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in result["techniques"]] == names.split(",")
    assert "INT8 weights" in result["chosen"]
    assert "quantization: {weights: Int8}" in out.read_text() == result["manifest"]
    assert "--quantization" in result["arguments"]
    [reuse] = [each for each in result["techniques"] if each["name"] == "prefix cache"]
    assert reuse["equalTexts"] == 1.0
    assert main(given) == 0  # evaluations are stored; the table instead of JSON
    captured = capsys.readouterr()
    assert "| INT8 weights |" in captured.out
    assert f"Written to {out}." in captured.out


def test_budget_that_no_technique_keeps_gives_the_dense_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["bundled:demo", *COMMON, "--budget", "quality=0%", "--techniques", "INT4 weights"]
    assert main([*given, "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "Chosen: the dense model" in text
    assert "dtype: Float32" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model-path"),
        (["bundled:demo", "--budget", "speed=2"], "--budget is 'speed=2'"),
        (["bundled:demo", "--text", "a", "--texts", "b"], "--text excludes --texts"),
        (["bundled:demo", "--text", "/nowhere"], "--text /nowhere"),
        (["bundled:demo", "--techniques", "INT3"], "no technique INT3"),
        (["bundled:nothing", *COMMON], "choose one of"),
        (["bundled:demo", "--block-size", "7"], "--block-size is 7"),
    ],
)
def test_wrong_use_has_exit_code_2_and_names_the_fix(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert words in json.loads(captured.out)["error"]
    assert words in captured.err


def test_help_prints_every_technique(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = "".join(capsys.readouterr().out.split())
    assert all("".join(each.name.split()) in printed for each in all_techniques())


def test_technique_names_can_stand_in_a_list_with_commas() -> None:
    assert not [each.name for each in all_techniques() if "," in each.name]


def test_a_missing_model_is_named_with_the_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nonexistent/model", *COMMON]) == 2
    assert "/nonexistent/model: no such folder. Fix: " in capsys.readouterr().err
