"""The native step: results that do not depend on batch, chunks or threads, and bad values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import ModelDescription
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec

NETWORKS = {
    "grouped": description(grouped()),
    "grouped, experts": description(grouped(4, 4, 16), EXPERTS),
    "latent": description(latent()),
    "latent, full query matrix, experts": description(latent(q_lora=None), EXPERTS),
    "latent, 26 heads": description(latent(heads=26)),
}
FLOATS = [Codec.FLOAT32, Codec.BFLOAT16, Codec.FLOAT16]
CODECS = [*FLOATS, Codec.INT8, Codec.INT4, Codec.INT4_MIN]
Logits = NDArray[np.float32]


def backend(
    network: ModelDescription,
    codec: Codec = Codec.FLOAT32,
    threads: int = 1,
    cache_type: CacheType = CacheType.FLOAT32,
    checkpoint: MemoryCheckpoint | None = None,
) -> CpuBackend:
    return CpuBackend(
        checkpoint or MemoryCheckpoint(network),
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=cache_type,
        blocks=400,
        block_size=16,
        threads=threads,
    )


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(1, 130, count)]


def logits_by_chunks(
    native: CpuBackend, prompt: Sequence[int], chunk: int, first: int = 0
) -> Logits:
    blocks = range(first, first + -(-len(prompt) // 16))
    parts = [
        native.step_with_logits(
            step_plan([Row(prompt, start, min(start + chunk, len(prompt)), blocks)])
        )[1]
        for start in range(0, len(prompt), chunk)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("codec", CODECS)
def test_a_row_does_not_depend_on_the_sequences_beside_it(
    network: ModelDescription, codec: Codec
) -> None:
    native = backend(network, codec)
    prompts = [tokens(length, length) for length in (19, 5, 33, 2, 8, 26, 12)]
    first = [Row(each, 0, len(each) - 1, range(4 * i, 4 * i + 4)) for i, each in enumerate(prompts)]
    last = [replace(row, start=row.end, end=row.end + 1) for row in first]
    alone = []
    for prefill, decode in zip(first, last, strict=True):
        native.step(step_plan([prefill]))
        alone.append(native.step_with_logits(step_plan([decode]))[1][0])
    native.step(step_plan(first))
    together = native.step_with_logits(step_plan(last))[1]
    for expected, row in zip(alone, together, strict=True):
        np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("codec", [Codec.FLOAT32, Codec.INT8])
def test_chunks_of_a_prompt_and_threads_give_the_same_logits(
    network: ModelDescription, codec: Codec
) -> None:
    prompt = tokens(90)
    whole = logits_by_chunks(backend(network, codec), prompt, 90)
    for threads, chunk in ((1, 1), (1, 7), (2, 90), (3, 13)):
        parts = logits_by_chunks(backend(network, codec, threads), prompt, chunk)
        # One of the two forms of latent attention rounds queries and outputs to 8 bits.
        np.testing.assert_allclose(parts, whole, atol=2e-4 if codec is Codec.FLOAT32 else 0.3)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_threads_do_not_change_a_single_bit(network: ModelDescription) -> None:
    prompt = tokens(70)
    one = logits_by_chunks(backend(network), prompt, 35)
    for threads in (2, 3):
        np.testing.assert_array_equal(
            logits_by_chunks(backend(network, threads=threads), prompt, 35), one
        )


@pytest.mark.parametrize(
    "network", [NETWORKS["grouped"], NETWORKS["latent"]], ids=["grouped", "latent"]
)
def test_a_long_context_in_parts_equals_one_long_prompt(network: ModelDescription) -> None:
    """A single row beyond 2,048 slots attends in parts that are merged."""
    prompt = tokens(5000)
    native = backend(network, threads=2)
    for start in range(0, 4992, 256):
        native.step(step_plan([Row(prompt, start, min(start + 256, 4992), range(320))]))
    rest = native.step_with_logits(step_plan([Row(prompt, 4992, 5000, range(320))]))[1]
    again = native.step_with_logits(step_plan([Row(prompt, 4999, 5000, range(320))]))[1]
    np.testing.assert_allclose(again[0], rest[-1], atol=2e-4)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("cache_type", list(CacheType))
def test_a_smaller_cache_type_changes_the_logits_little(
    network: ModelDescription, cache_type: CacheType
) -> None:
    prompt = tokens(50)
    exact = logits_by_chunks(backend(network), prompt, 10)
    rounded = logits_by_chunks(backend(network, cache_type=cache_type), prompt, 10)
    bound = {
        CacheType.FLOAT32: 1e-6,
        CacheType.FLOAT16: 5e-3,
        CacheType.BFLOAT16: 4e-2,
        CacheType.INT8: 0.1,
        CacheType.FLOAT8: 0.3,
        CacheType.INT4: 0.8,
    }
    if network.layers[0].feed_forward is not EXPERTS:  # a close choice of experts may turn
        assert np.abs(rounded - exact).max() <= bound[cache_type] * np.abs(exact).max()


@pytest.mark.parametrize(
    ("codec", "bound"),
    [
        (Codec.BFLOAT16, 0.01),
        (Codec.FLOAT16, 0.002),
        (Codec.INT8, 0.04),
        (Codec.INT4, 0.45),
        (Codec.INT4_MIN, 0.4),
    ],
)
def test_a_packed_matrix_has_the_error_of_its_bits(codec: Codec, bound: float) -> None:
    network = NETWORKS["grouped"]
    prompt = tokens(40)
    exact = logits_by_chunks(backend(network), prompt, 40)
    packed = logits_by_chunks(backend(network, codec), prompt, 40)
    error = np.sqrt(np.mean((packed - exact) ** 2) / np.mean(exact**2))
    assert 0 < error < bound


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("codec", [Codec.FLOAT32, Codec.INT8, Codec.INT4])
def test_a_row_that_is_not_finite_leaves_the_others_unchanged(
    network: ModelDescription, codec: Codec
) -> None:
    checkpoint = MemoryCheckpoint(network)
    native = backend(network, codec, checkpoint=checkpoint)
    good = step_plan([Row(tokens(9), 0, 9, range(1)), Row(tokens(4, 1), 0, 4, range(1, 2))])
    expected = native.step_with_logits(good)[1]
    poisoned = MemoryCheckpoint(network)
    # Float weights only: an integer form has no NaN.
    poisoned.weights["embed_tokens.weight"][130] = np.nan
    wide = Codec.FLOAT32
    native = CpuBackend(
        poisoned, codecs=Codecs(codec, codec, codec, wide), blocks=400, block_size=16
    )
    plain = CpuBackend(
        checkpoint, codecs=Codecs(codec, codec, codec, wide), blocks=400, block_size=16
    )
    bad = step_plan([Row([*tokens(8), 130], 0, 9, range(1)), Row(tokens(4, 1), 0, 4, range(1, 2))])
    result, logits = native.step_with_logits(bad)
    reference = plain.step_with_logits(good)[1]
    assert result.tokens[8] == -1
    assert (result.tokens[9:] >= 0).all()
    np.testing.assert_array_equal(logits[9:], reference[9:])
    assert np.isfinite(expected).all()


def test_blocks_of_another_sequence_are_never_read() -> None:
    for network in NETWORKS.values():
        native = backend(network)
        native.step(step_plan([Row(tokens(32, 5), 0, 32, [7, 8])]))
        prompt = tokens(20)
        expected = logits_by_chunks(backend(network), prompt, 20)
        shifted = native.step_with_logits(step_plan([Row(prompt, 0, 20, [8, 3])]))[1]
        np.testing.assert_array_equal(shifted, expected)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row([131], 0, 1, [0]), "a token is outside of the vocabulary"),
        (Row([-1], 0, 1, [0]), "a token is outside of the vocabulary"),
        (Row([5] * 8193, 8192, 8193, range(513)), "beyond the longest sequence"),
        (Row([5] * 17, 16, 17, [0]), "a sequence has too few blocks"),
        (Row([5], 0, 1, [400]), "a block is outside of the cache"),
        (Row([5], 0, 1, [-1]), "a block is outside of the cache"),
    ],
)
def test_a_step_that_would_touch_other_memory_is_refused(row: Row, message: str) -> None:
    native = CpuBackend(MemoryCheckpoint(NETWORKS["grouped"]), blocks=400, block_size=16)
    with pytest.raises(RuntimeError, match=message):
        native.step(step_plan([row]))
    assert native.step(step_plan([Row([5], 0, 1, [0])])).tokens[0] >= 0
