"""Every backend computes a GGUF model as an independent forward pass in numpy does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from numpy_forward import NumpyModel
from paged_steps import PagedDriver
from parity_cases import BackendOf
from r1_runtime.checkpoint.open import open_checkpoint
from tiny_gguf import TINY_GGUFS, write_tiny_gguf


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("name", TINY_GGUFS)
def test_log_probabilities_of_a_gguf_model_equal_those_of_numpy(
    tmp_path: Path, backend_of: BackendOf, name: str, kind: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, TINY_GGUFS[name], GGMLQuantizationType[kind])
    checkpoint = open_checkpoint(path)
    driver = PagedDriver(backend_of(checkpoint, 1), checkpoint.description.vocab_size)
    prompt = np.random.default_rng(2).integers(0, 256, 30).tolist()
    (sequence,) = driver.generate([prompt], new_tokens=4, budget=11)
    logits = NumpyModel(checkpoint).logits(sequence.tokens)[len(prompt) - 1 : -1]
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    # Rounding grows with depth: 1e-5 after 2 layers, 4e-4 after the 27 of V2-Lite.
    np.testing.assert_allclose(np.stack(sequence.logprobs), expected, atol=1e-3)
