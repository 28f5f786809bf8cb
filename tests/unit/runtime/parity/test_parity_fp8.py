"""FP8 checkpoints with factors per 128 x 128 block equal the same values in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paged_steps import PagedDriver, Rows
from parity_cases import BackendOf
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Encoding
from tiny_checkpoints import (
    VOCABULARY,
    quantize_to_fp8,
    with_weights,
    write_deepseek_v3,
    write_qwen3,
)

# More than one block in both directions, and blocks that are not full.
LARGE = {"hidden_size": 160, "intermediate_size": 272, "num_hidden_layers": 2}
MODELS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "deepseek v3": (write_deepseek_v3, LARGE | {"moe_intermediate_size": 144, "q_lora_rank": 136}),
    "qwen3": (write_qwen3, LARGE | {"head_dim": 40}),
}


@pytest.mark.parametrize("model", MODELS)
def test_fp8_checkpoint_has_the_logits_of_its_values_in_float32(
    model: str, tmp_path: Path, backend_of: BackendOf
) -> None:
    pytest.importorskip("transformers")
    write, changes = MODELS[model]
    write(tmp_path, initializer_range=0.1, **changes)
    values = quantize_to_fp8(tmp_path)
    oracle = with_weights(tmp_path, values)
    checkpoint = open_checkpoint(tmp_path)
    encodings = {checkpoint.tensor(name).encoding for name in checkpoint.names()}
    assert encodings == {Encoding.F32, Encoding.F8_E4M3}

    generator = torch.Generator().manual_seed(6)
    prompt = torch.randint(2, VOCABULARY, (40,), generator=generator)
    driver = PagedDriver(backend_of(checkpoint, 1), VOCABULARY)
    sequence = driver.sequence(prompt.tolist(), len(prompt))
    driver.step([Rows(sequence, len(prompt), len(prompt))])
    with torch.no_grad():
        theirs = oracle(prompt[None]).logits[0].double().log_softmax(-1)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(np.stack(sequence.logprobs), theirs, atol=1e-4, rtol=0)
