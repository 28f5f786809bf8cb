"""Modes of heads chosen by a profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memory_checkpoint import MemoryCheckpoint, description, grouped
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.profiling.attention_heads import HeadProfile, choose_modes, main
from r1_runtime.sparsity.heads import HeadMode, uniform
from r1_runtime.sparsity.policy import DynamicSparseAttention

POLICY = DynamicSparseAttention(sparsity=0.8, window=32, from_context=1)


@pytest.fixture(scope="module")
def profile() -> HeadProfile:
    codec = Codec.FLOAT32
    backend = CpuBackend(
        MemoryCheckpoint(description(grouped())),
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=CacheType.FLOAT32,
        blocks=16,
        block_size=16,
        sparsity=POLICY,
    )
    tokens = [int(token) for token in np.random.default_rng(1).integers(1, 130, 256)]
    return HeadProfile(backend, POLICY, tokens, rows=8)


def test_dense_heads_change_nothing(profile: HeadProfile) -> None:
    assert profile.divergence(uniform(profile.heads, HeadMode.DENSE)) == 0


def test_budget_decides_the_modes(profile: HeadProfile) -> None:
    assert choose_modes(profile, 1e9) == uniform(profile.heads, HeadMode.WINDOW)
    assert choose_modes(profile, 0.0) == uniform(profile.heads, HeadMode.DENSE)


def test_heads_that_window_changes_most_are_not_windows(profile: HeadProfile) -> None:
    budget = 2 * profile.divergence(uniform(profile.heads, HeadMode.SPARSE))
    modes = choose_modes(profile, budget)
    window = profile.divergence(uniform(profile.heads, HeadMode.WINDOW))
    assert profile.divergence(modes) <= window


def test_too_short_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Too short.")
    assert main(["bundled:demo", str(text), "--output", str(tmp_path / "modes.json")]) == 2
    assert "a longer text" in capsys.readouterr().err
