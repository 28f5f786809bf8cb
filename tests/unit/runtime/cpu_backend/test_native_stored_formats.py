"""Every stored encoding on the native backend: read exactly, and packed with the precision it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import DenseFeedForward, ModelDescription
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend, packed_bytes
from r1_runtime.backends.cpu.library import Codec, Part, Source
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Encoding
from random_blocks import random_tensor

PROMPT = np.random.default_rng(9).integers(1, 130, 24).tolist()
# Every matrix but kv_b_proj has rows of 256 values, the block of K-quants.
DENSE = replace(description(grouped(8, 2, 32), DenseFeedForward(256)), hidden_size=256)
MIXTURE = replace(
    description(grouped(8, 2, 32), replace(EXPERTS, inner=256, shared_inner=256), layers=1),
    hidden_size=256,
)
LATENT = description(latent(), DenseFeedForward(300))

# Largest relative error (root mean square) of the logits. An integer panel multiplies by inputs of
# 8 bits; Q4_K has factors per 32 values that the panel rounds again, and the wider K-quants become
# 8 bits. Float panels keep their values.
BOUNDS = {
    Encoding.F16: 1e-4,
    Encoding.BF16: 1e-4,
    Encoding.F8_E4M3: 1e-4,
    Encoding.Q8_0: 0.05,
    Encoding.Q4_0: 0.05,
    Encoding.Q4_1: 0.05,
    Encoding.Q5_0: 0.05,
    Encoding.Q5_1: 0.05,
    Encoding.Q2_K: 0.05,
    Encoding.Q3_K: 0.05,
    Encoding.Q4_K: 0.15,
    Encoding.Q5_K: 0.05,
    Encoding.Q6_K: 0.05,
}


def stored(
    network: ModelDescription, encoding_of: Callable[[str], Encoding | None]
) -> MemoryCheckpoint:
    """Random weights whose projections have the encoding that `encoding_of` gives their names."""
    checkpoint = MemoryCheckpoint(network)
    random = np.random.default_rng(4)
    for name, values in checkpoint.weights.items():
        encoding = encoding_of(name) if values.ndim == 2 else None
        if encoding is not None:
            checkpoint.stored[name] = random_tensor(name, values.shape, encoding, random)
    return checkpoint


def projections(encoding: Encoding) -> Callable[[str], Encoding | None]:
    return lambda name: encoding if "_proj." in name else None


def decoded(checkpoint: MemoryCheckpoint) -> MemoryCheckpoint:
    """The same values in float32."""
    wide = MemoryCheckpoint(checkpoint.description)
    for name, tensor in checkpoint.stored.items():
        wide.weights[name] = decode(tensor)
    return wide


def logits(
    checkpoint: MemoryCheckpoint, codec: Codec | None = None, threads: int = 1
) -> NDArray[np.float32]:
    native = CpuBackend(
        checkpoint,
        codecs=Codecs(codec, codec, codec, codec),
        blocks=8,
        block_size=16,
        threads=threads,
    )
    return native.step_with_logits(step_plan([Row(PROMPT, 0, len(PROMPT), range(4))]))[1]


def relative_error(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((ours - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.parametrize("network", [DENSE, MIXTURE], ids=["dense", "experts"])
@pytest.mark.parametrize("encoding", BOUNDS)
def test_float32_panels_have_the_decoded_values_of_every_encoding(
    encoding: Encoding, network: ModelDescription
) -> None:
    checkpoint = stored(network, projections(encoding))
    exact = logits(decoded(checkpoint), Codec.FLOAT32)
    assert exact.std() > 0.1
    # A factor of FP8 is multiplied in another order.
    tolerance = 1e-4 if encoding is Encoding.F8_E4M3 else 0
    np.testing.assert_allclose(logits(checkpoint, Codec.FLOAT32), exact, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("encoding", BOUNDS)
def test_panels_of_the_stored_precision_are_close_to_the_decoded_values(
    encoding: Encoding, threads: int
) -> None:
    checkpoint = stored(DENSE, projections(encoding))
    exact = logits(decoded(checkpoint), Codec.FLOAT32)
    assert relative_error(logits(checkpoint, threads=threads), exact) < BOUNDS[encoding]


def test_fp8_latent_attention_keeps_its_precision_but_for_values_in_bfloat16() -> None:
    checkpoint = stored(LATENT, projections(Encoding.F8_E4M3))
    exact = logits(decoded(checkpoint), Codec.FLOAT32)
    assert relative_error(logits(checkpoint), exact) < 5e-3


@pytest.mark.parametrize(
    ("narrow", "wide", "bound"),
    [
        (Encoding.Q4_0, Encoding.F32, 1e-5),
        (Encoding.F8_E4M3, Encoding.F32, 1e-5),
        (Encoding.Q4_K, Encoding.Q6_K, 0.05),
        (Encoding.F8_E4M3, Encoding.BF16, 5e-3),
    ],
)
@pytest.mark.parametrize(
    "narrow_part", ["q_proj", "v_proj", "gate_proj", "up_proj"], ids=lambda part: part
)
def test_a_matrix_of_several_tensors_has_the_precision_of_the_widest(
    narrow: Encoding, wide: Encoding, bound: float, narrow_part: str
) -> None:
    """llama.cpp stores v_proj of Q4_K_M files as Q6_K; q, k and v are one matrix here."""
    joined = ("q_proj", "k_proj", "v_proj") if narrow_part[0] in "qv" else ("gate_proj", "up_proj")

    def encoding_of(name: str) -> Encoding | None:
        kind = name.split(".")[-2]
        if kind == narrow_part:
            return narrow
        return wide if kind in joined else None

    checkpoint = stored(DENSE, encoding_of)
    exact = logits(decoded(checkpoint), Codec.FLOAT32)
    assert relative_error(logits(checkpoint), exact) < bound


def test_packed_bytes_follow_the_form_of_each_matrix() -> None:
    stored_as = stored(DENSE, projections(Encoding.Q8_0))
    matrices = {name: tensor.shape for name, tensor in stored_as.stored.items()}
    eight_bits = sum(rows * columns for rows, columns in matrices.values()) * 8.5 / 8
    rest = 2 * 144 * 256 * 4  # embedding and head, 131 rows rounded up to 144
    assert packed_bytes(stored_as, Codecs()) == int(eight_bits) + rest
    four = Codecs(Codec.INT4, Codec.INT4, Codec.INT4, Codec.INT4)
    assert packed_bytes(stored_as, four) == int((eight_bits * 8 / 8.5 + rest / 4) * 4.5 / 8)


def test_a_bias_beyond_its_matrix_is_refused() -> None:
    """It would be written outside of the matrix's memory."""
    native = CpuBackend(MemoryCheckpoint(DENSE), blocks=4, block_size=16)
    values, rows = np.zeros(16, np.float32), (8 + 2 + 2) * 32
    for offset, status in ((rows - 16, 0), (rows - 15, -1)):
        put = native._library.r1_put(
            native._model,
            *(0, Part.INPUT_BIAS, 0, Source.F32, Codec.FLOAT32, 1, len(values), offset, 0),
            *(values.ctypes.data, None),
        )
        assert put == status
    assert b"a bias comes before its matrix" in native._library.r1_error(native._model)
