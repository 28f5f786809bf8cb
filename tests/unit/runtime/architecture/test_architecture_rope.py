"""Rotary frequencies equal those of `transformers`, for both spellings of the configuration."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from r1_runtime.architecture.description import GroupedQueryAttention
from r1_runtime.architecture.families import describe
from r1_runtime.errors import ModelLoadError

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
PARAMETERS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": YARN,
    "yarn with betas": YARN | {"beta_fast": 16, "beta_slow": 2, "truncate": False},
    "yarn with mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "factor": 40.0},
    "yarn without factor": YARN | {"factor": None},
}
SHAPE = {
    "hidden_size": 512,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 131072,
}


def gqa(raw: dict[str, Any]) -> GroupedQueryAttention:
    attention = describe(raw).layers[0].attention
    assert isinstance(attention, GroupedQueryAttention)
    return attention


@pytest.mark.parametrize("base", [10000.0, 500000.0, 1e6])
@pytest.mark.parametrize("name", PARAMETERS)
def test_frequencies_equal_those_of_transformers(name: str, base: float) -> None:
    transformers = pytest.importorskip("transformers")
    rope = PARAMETERS[name] | {"rope_theta": base}
    config = transformers.LlamaConfig(**SHAPE, rope_parameters=rope)
    oracle = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    ours = gqa(json.loads(config.to_json_string())).rope
    np.testing.assert_allclose(ours.inverse_frequencies, oracle.inv_freq.numpy(), rtol=1e-6)
    assert ours.cos_sin_scale == pytest.approx(oracle.attention_scaling, rel=1e-9)
    assert (ours.dim, ours.interleaved) == (128, False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_older_spelling_gives_the_same_frequencies(name: str) -> None:
    new = {
        "model_type": "llama",
        **SHAPE,
        "rope_parameters": {**PARAMETERS[name], "rope_theta": 5e5},
    }
    scaling = dict(PARAMETERS[name])
    kind = scaling.pop("rope_type")
    old = {
        "architectures": ["LlamaForCausalLM"],
        **SHAPE,
        "rope_theta": 500000,
        "rope_scaling": None if kind == "default" else {"type": kind, **scaling},
    }
    assert gqa(new) == gqa(old)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope type 'longrope'"),
        ({"rope_scaling": {"type": "linear"}}, "factor of the linear rope parameters is None"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor of the linear .* is 0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor of the llama3"),
        (
            {"rope_scaling": {"type": "yarn"}},
            "original_max_position_embeddings of the yarn rope parameters is None",
        ),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'"),
        ({"rope_theta": "big"}, "rope_theta of the default rope parameters is 'big'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "each kind of layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor is 0.25"),
    ],
)
def test_rope_that_is_not_implemented_or_malformed_is_named(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelLoadError, match=words) as caught:
        describe({"model_type": "llama", **SHAPE, **changes})
    assert "Fix: " in str(caught.value)
