"""Whole evaluations of the bundled demo model on the sample set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1_runtime.config import R1Config
from r1_runtime.quality.__main__ import main
from r1_runtime.quality.configuration import load_configuration, read_share
from r1_runtime.quality.evaluation_set import read_set
from r1_runtime.quality.result import QualityResult, read_result
from r1_runtime.quality.size import DEFAULT, TINY
from r1_runtime.quality.stored_results import evaluate_stored
from r1_runtime.quality.timing import TimingSize, compare_times

SAMPLE = read_set("sample")
MODEL = "bundled:demo"


def evaluated(folder: Path, **changes: str) -> QualityResult:
    return evaluate_stored(R1Config(base_model=MODEL, **changes), SAMPLE, TINY, folder=folder)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def test_evaluation_has_every_figure(folder: Path) -> None:
    figures = {each.name: each for each in evaluated(folder, dtype="float32").figures}
    assert set(figures) == {
        "perplexity",
        "perplexity, tokens 1-24",
        "perplexity, tokens from 24",
        "perplexity, one by one",
        "retrieval 128",
        "perplexity of the code, 128",
        "choices",
        "cloze",
        "perplexity of the cloze words",
        "retrieval",
    }
    assert 1 < figures["perplexity"].value < 3000
    assert len(figures["perplexity"].documents) == 3


def test_two_evaluations_of_one_configuration_are_equal(folder: Path) -> None:
    first = evaluated(folder, dtype="float32")
    again = evaluate_stored(R1Config(base_model=MODEL, dtype="float32"), SAMPLE, TINY, folder=None)
    for each in again.compare(first):
        assert (each.change, each.low, each.high) == (0, 0, 0), each.name


def test_threads_and_chunks_change_no_figure(folder: Path) -> None:
    first = evaluated(folder, dtype="float32")
    config = R1Config(base_model=MODEL, dtype="float32", threads=2, max_step_tokens=32)
    other = evaluate_stored(config, SAMPLE, TINY, folder=None)
    for each in other.compare(first):
        assert abs(each.change) < 1e-3, each.name


def test_int4_weights_lose_more_than_int8(folder: Path) -> None:
    dense = evaluated(folder, dtype="float32")
    losses = []
    for form in ("int8", "int4"):
        compared = {each.name: each for each in evaluated(folder, quantization=form).compare(dense)}
        losses.append(abs(compared["perplexity"].change))
        assert 0.5 < compared["same most probable token"].value <= 1
    assert losses[0] < losses[1] < 20


def test_stored_result_is_read_again(folder: Path) -> None:
    result = evaluated(folder, dtype="float32")
    assert result in [read_result(path) for path in folder.glob("*.json")]


def test_results_on_other_texts_are_not_compared(folder: Path) -> None:
    result = evaluated(folder, dtype="float32")
    fields = result.to_json() | {"texts": "other"}
    path = folder / "other.txt"
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="differ"):
        result.compare(read_result(path))


def test_longer_texts_than_the_model_has_positions_are_cut() -> None:
    size = DEFAULT.within(1024)
    assert (size.context, size.retrieval_lengths) == (1024, (1024,))
    assert size.longest == 1024
    assert size.most_tokens >= 4096


def test_mixture_reads_only_the_experts_that_run() -> None:
    loaded = load_configuration(R1Config(base_model=MODEL), TINY)
    description = loaded.backend.description  # type: ignore[attr-defined]
    assert 0.1 < read_share(description) < 1
    assert loaded.traffic.at(1000) > loaded.traffic.at(10) > loaded.traffic.weights
    assert loaded.traffic.at(1000, 0.5) < loaded.traffic.at(1000)
    loaded.close()


def test_times_are_compared_in_turns() -> None:
    configs = [R1Config(base_model=MODEL, threads=1, dtype="float32") for _ in range(2)]
    one, other = (load_configuration(each, TINY) for each in configs)
    timing = compare_times(one, other, TimingSize(64, 4, 32, 3))
    assert timing.decode.low <= timing.decode.median <= timing.decode.high
    assert timing.decode.seconds > 0
    assert timing.prefill.seconds > 0
    for each in (one, other):
        assert sorted(each.decoder._free) == list(range(each.decoder._capacity))
        each.close()


def test_command_compares_with_a_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, common = tmp_path / "dense.json", ["--model-path", MODEL, "--texts", "sample"]
    common += ["--size", "tiny", "--threads", "1"]
    assert main(["evaluate", *common, "--dtype", "float32", "--out", str(dense)]) == 0
    capsys.readouterr()
    given = ["evaluate", *common, "--quantization", "int8", "--baseline", str(dense)]
    assert main(given) == 0
    table = capsys.readouterr().out
    assert "| same greedy text |" in table
    assert "95 % interval" in table
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--texts", "none.json"], "no such file. Fix: python -m r1_runtime.quality collect"),
        (["--baseline", "none.json", "--texts", "sample"], "not a result"),
        (["--model-path", "bundled:none", "--texts", "sample"], "choose one of"),
    ],
)
def test_wrong_use_is_named_with_the_fix(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model-path", MODEL, "--size", "tiny", *arguments]) == 2
    assert words in capsys.readouterr().err
