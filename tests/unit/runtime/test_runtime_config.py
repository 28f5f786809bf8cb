"""`R1Config`: the command line is a view of it, and both report the same errors."""

from __future__ import annotations

from typing import Any

import pytest

from r1_runtime.config import R1Config, described_fields, flag_of
from r1_runtime.errors import OptionError
from r1_runtime.server.options import parse_options, serve_options

VARIED: dict[str, Any] = {
    "base_model": "bundled:demo",
    "backend": "cpu",
    "device": "cpu",
    "dtype": "float32",
    "quantization": "int8",
    "kv_cache_dtype": "bfloat16",
    "max_num_seqs": 4,
    "max_model_len": 128,
    "num_blocks": 64,
    "block_size": 32,
    "prefix_caching": False,
    "speculation": "ngram",
    "max_drafts": 2,
    "sleep_mode": True,
    "max_step_tokens": 64,
    "threads": 1,
}


def test_command_line_of_a_configuration_gives_the_configuration_back() -> None:
    config = R1Config(**VARIED)
    options = parse_options(config.arguments())
    assert {name: getattr(options, name) for name in VARIED} == VARIED
    assert options.arguments() == config.arguments()


def test_default_configuration_needs_the_model_alone() -> None:
    assert R1Config(base_model="x").arguments() == ["--model-path", "x"]
    assert parse_options(["--model-path", "x"]) == serve_options(
        R1Config(base_model="x"), names=("x",)
    )


@pytest.mark.parametrize("name", [each.name for each, _ in described_fields(R1Config)])
def test_every_option_has_a_help_text(name: str) -> None:
    [described] = [option for each, option in described_fields(R1Config) if each.name == name]
    assert described.help
    assert flag_of(name, described).startswith("--")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_num_seqs": 0}, "--max-num-seqs is 0; it must be at least 1"),
        ({"max_num_seqs": 1.5}, "--max-num-seqs is 1.5; it must be a whole number"),
        ({"max_num_seqs": True}, "--max-num-seqs is True; it must be a whole number"),
        ({"quantization": "int3"}, "--quantization is 'int3'; it must be one of none, int8"),
        ({"prefix_caching": "no"}, "--no-prefix-caching is 'no'; it must be true or false"),
        ({"block_size": 24}, "--block-size is 24; it must be a multiple of 16"),
        ({"base_model": None}, "--model-path is None; it must be a text"),
    ],
)
def test_invalid_value_in_python_names_the_option(values: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        R1Config(**{"base_model": "x"} | values)


def test_choices_are_valid_in_any_case() -> None:
    assert R1Config(base_model="x", dtype="BFloat16").dtype == "bfloat16"


def test_step_has_room_for_one_token_of_each_seat() -> None:
    assert R1Config(base_model="x", max_num_seqs=512).max_step_tokens == 512
