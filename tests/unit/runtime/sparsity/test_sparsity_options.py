"""Options of sparse attention: what they mean, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_checkpoint import MemoryCheckpoint, description, grouped, latent
from r1_runtime.backends.cpu.cache_size import block_bytes, row_bytes
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.backends.selection import choose_backend
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.server.sparsity_options import sparsity_policy
from r1_runtime.sparsity.heads import (
    FILE_NAME,
    HeadMode,
    HeadModes,
    key_heads,
    read_head_modes,
    uniform,
    write_head_modes,
)
from r1_runtime.sparsity.policy import DynamicSparseAttention

NETWORK = description(grouped())


def policy(folder: Path, **fields: Any) -> DynamicSparseAttention | None:
    return sparsity_policy(R1Config(base_model="x", **fields), folder, NETWORK)


def test_attention_is_dense_by_default(tmp_path: Path) -> None:
    assert policy(tmp_path) is None


def test_options_become_the_policy(tmp_path: Path) -> None:
    found = policy(
        tmp_path, attention_sparsity=0.5, adaptive_sparsity=True, sparsity_range=(0.2, 0.6)
    )
    assert found == DynamicSparseAttention(sparsity=0.5, adaptive=True, drop_range=(0.2, 0.6))


def test_window_alone_is_every_head_in_window_mode(tmp_path: Path) -> None:
    found = policy(tmp_path, attention_window=100)
    assert found is not None
    assert found.heads == uniform(key_heads(NETWORK), HeadMode.WINDOW)
    assert found.window_units == 8  # 7 full units and the one that fills
    assert found.from_context == 1


def test_head_modes_are_read_from_beside_the_checkpoint(tmp_path: Path) -> None:
    modes = HeadModes(((HeadMode.DENSE, HeadMode.SPARSE), (HeadMode.WINDOW, HeadMode.SPARSE)))
    write_head_modes(tmp_path / FILE_NAME, modes)
    assert read_head_modes(tmp_path / FILE_NAME) == modes
    found = policy(tmp_path, attention_sparsity=0.8)
    assert found is not None
    assert found.heads == modes
    assert policy(tmp_path) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"adaptive_sparsity": True}, "--adaptive-sparsity changes nothing"),
        ({"sparsity_correction": True}, "--sparsity-correction changes nothing"),
        ({"sparse_prompts": True}, "--sparse-prompts changes nothing"),
        ({"attention_heads": "x.json"}, "--attention-heads changes nothing"),
        ({"attention_sparsity": 1.5}, "--attention-sparsity is 1.5; it must be at most 1"),
        ({"attention_sparsity": 0.5, "sparsity_range": (0.7, 0.3)}, "--sparsity-range"),
        ({"attention_sparsity": 0.5, "sparsity_range": (0.7,)}, "--sparsity-range is 0.7"),
        ({"attention_window": 0}, "--attention-window is 0; it must be at least 1"),
        ({"kv_cache_dtype": "int2"}, "--kv-cache-dtype is 'int2'"),
        ({"attention_sparsity": 0.5, "attention_heads": "/none.json"}, "/none.json"),
    ],
)
def test_invalid_options_are_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        policy(tmp_path, **fields)


def test_head_modes_of_another_model_are_refused(tmp_path: Path) -> None:
    write_head_modes(tmp_path / FILE_NAME, uniform((1, 1, 1), HeadMode.SPARSE))
    with pytest.raises(OptionError, match="1 in 3 layers, but the model has 2 in 2 layers"):
        policy(tmp_path, attention_sparsity=0.5)


@pytest.mark.parametrize("content", ["", "{}", '{"layers": [["fast"]]}', '{"layers": 3}', "[]"])
def test_file_without_head_modes_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(OptionError, match="no head modes"):
        read_head_modes(tmp_path / FILE_NAME)


@pytest.mark.parametrize(
    "fields",
    [{"backend": "cuda", "has_gpu": lambda: True, "has_triton": lambda: True}, {"ranks": 2}],
)
def test_sparse_attention_is_refused_where_nothing_computes_it(fields: dict[str, Any]) -> None:
    device = "cuda" if "backend" in fields else "cpu"
    with pytest.raises(OptionError, match="--attention-sparsity"):
        choose_backend(
            MemoryCheckpoint(NETWORK),
            device=device,
            sparsity=DynamicSparseAttention(),
            native=lambda: None,
            **fields,
        )


def test_native_backend_is_told_the_policy_and_says_so() -> None:
    choice = choose_backend(
        MemoryCheckpoint(NETWORK),
        sparsity=DynamicSparseAttention(),
        cache_dtype="int4",
        native=lambda: None,
        has_gpu=lambda: False,
    )
    assert choice.sparsity == DynamicSparseAttention()
    assert choice.cache_type is CacheType.INT4
    assert any("drop 80% of the units" in reason for reason in choice.reasons)


@given(st.floats(0, 1), st.integers(0, 5000), st.booleans(), st.floats(0, 0.9), st.floats(0, 0.9))
def test_bounds_of_a_selection_are_ascending_and_within_the_candidates(
    sparsity: float, candidates: int, adaptive: bool, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    each = DynamicSparseAttention(sparsity=sparsity, adaptive=adaptive, drop_range=(low, high))
    kept = each.kept(candidates)
    least, most = each.bounds(kept)
    assert 0 <= least <= most <= kept <= candidates
    if sparsity == 0:
        assert kept == candidates


@pytest.mark.parametrize(
    ("cache", "least"),
    [(CacheType.INT8, 1.9), (CacheType.FLOAT8, 1.9), (CacheType.INT4, 3.5)],
)
def test_packed_cache_holds_more_tokens_in_the_same_memory(cache: CacheType, least: float) -> None:
    wide = description(grouped(8, 2, 64))
    assert block_bytes(wide, CacheType.FLOAT16, 16) / block_bytes(wide, cache, 16) >= least


def test_block_has_room_for_its_summaries() -> None:
    wide = description(grouped(8, 2, 64))
    dense = block_bytes(wide, CacheType.FLOAT16, 32)
    sparse = block_bytes(wide, CacheType.FLOAT16, 32, DynamicSparseAttention())
    assert sparse == dense + 2 * 2 * 2 * (2 * 64) * 2  # layers, heads, units, mean and range, bytes
    assert row_bytes(CacheType.INT4, 64) == 36
    rotary = block_bytes(description(latent()), CacheType.INT4, 16)
    assert rotary == 2 * 16 * (row_bytes(CacheType.INT4, 24) + 2 * 8)


def test_invalid_policy_names_the_value() -> None:
    with pytest.raises(ValueError, match="sparsity is 2"):
        replace(DynamicSparseAttention(), sparsity=2)
    with pytest.raises(ValueError, match="from_context is 0"):
        replace(DynamicSparseAttention(), from_context=0)
