"""Backends and checkpoints of the parity tests; a further backend is an entry of `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paged_steps import BLOCK_COUNT, BLOCK_SIZE
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.step_plan import Backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Checkpoint
from tiny_checkpoints import (
    YARN,
    write_deepseek_v2,
    write_deepseek_v2_lite,
    write_deepseek_v3,
    write_deepseek_v32,
    write_llama,
    write_mistral,
    write_qwen2,
    write_qwen3,
    write_qwen3_moe,
)

BackendOf = Callable[[Checkpoint, int], Backend]


def reference(checkpoint: Checkpoint, threads: int) -> Backend:
    backend = ReferenceBackend(load_network(checkpoint), BLOCK_COUNT, BLOCK_SIZE)
    backend.set_threads(threads)
    return backend


def cpu(checkpoint: Checkpoint, threads: int, codec: Codec | None = Codec.FLOAT32) -> Backend:
    """The native backend; `codec` None packs the weights as they are stored."""
    return CpuBackend(
        checkpoint,
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=CacheType.FLOAT32,
        blocks=BLOCK_COUNT,
        block_size=BLOCK_SIZE,
        threads=threads,
    )


def cpu_two_threads(checkpoint: Checkpoint, threads: int) -> Backend:
    return cpu(checkpoint, threads + 1)


def cuda(checkpoint: Checkpoint, threads: int) -> Backend:
    from r1_runtime.backends.cuda.backend import CudaBackend

    backend = CudaBackend(
        checkpoint, blocks=BLOCK_COUNT, block_size=BLOCK_SIZE, dtype=torch.float32
    )
    backend.set_threads(threads)
    return backend


# Each computes in float32 and has a cache of BLOCK_COUNT blocks of BLOCK_SIZE tokens.
BACKENDS: dict[str, BackendOf] = {
    "reference": reference,
    "cpu": cpu,
    "cpu, two threads": cpu_two_threads,
}
if torch.cuda.is_available():
    BACKENDS["cuda"] = cuda

_DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
VARIANTS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "deepseek v3": (write_deepseek_v3, {}),
    "deepseek v3, no query compression": (write_deepseek_v3, {"q_lora_rank": None}),
    "deepseek v3, one group": (
        write_deepseek_v3,
        {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    ),
    "deepseek v3, yarn": (
        write_deepseek_v3,
        {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    ),
    "deepseek v3, yarn, uneven mscale": (
        write_deepseek_v3,
        {"rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "factor": 8.0}},
    ),
    "deepseek v3, yarn, no mscale": (
        write_deepseek_v3,
        {"rope_parameters": YARN, "q_lora_rank": None},
    ),
    "deepseek v3, tied head": (write_deepseek_v3, {"tie_word_embeddings": True}),
    "deepseek v3, weights not normalised": (
        write_deepseek_v3,
        {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
    ),
    "deepseek v3, two dense layers, two shared experts": (
        write_deepseek_v3,
        {"first_k_dense_replace": 2, "n_shared_experts": 2},
    ),
    "deepseek v3, biases, halves rotated": (
        write_deepseek_v3,
        {"attention_bias": True, "rope_interleave": False},
    ),
    "deepseek v3, odd sizes": (
        write_deepseek_v3,
        {"hidden_size": 46, "moe_intermediate_size": 23, "rms_norm_eps": 1e-5},
    ),
    "deepseek v3.2, all positions selected": (write_deepseek_v32, {}),
    "deepseek v2": (write_deepseek_v2, {}),
    "deepseek v2, biases": (write_deepseek_v2, {"attention_bias": True}),
    "deepseek v2 lite": (write_deepseek_v2_lite, {}),
    "llama": (write_llama, {}),
    "llama, linear rope, tied head": (
        write_llama,
        {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
            "tie_word_embeddings": True,
        },
    ),
    "llama, default rope, biases": (
        write_llama,
        {"rope_parameters": _DEFAULT_ROPE, "attention_bias": True, "rms_norm_eps": 1e-5},
    ),
    "llama, yarn, one key-value head": (
        write_llama,
        {"rope_parameters": YARN, "num_key_value_heads": 1},
    ),
    "llama, multi-head, odd sizes": (
        write_llama,
        {"num_key_value_heads": 4, "head_dim": 6, "hidden_size": 44, "intermediate_size": 37},
    ),
    "mistral": (write_mistral, {}),
    "mistral, window of all positions": (write_mistral, {"sliding_window": 256}),
    "qwen2": (write_qwen2, {}),
    "qwen2, tied head, yarn": (
        write_qwen2,
        {"tie_word_embeddings": True, "rope_parameters": YARN},
    ),
    "qwen3": (write_qwen3, {}),
    "qwen3 moe": (write_qwen3_moe, {}),
    "qwen3 moe, weights not normalised": (write_qwen3_moe, {"norm_topk_prob": False}),
    "qwen3, biases, separate head": (
        write_qwen3,
        {"attention_bias": True, "tie_word_embeddings": False},
    ),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A checkpoint and the model of `transformers` that wrote it."""

    folder: Path
    checkpoint: Checkpoint
    oracle: Any

    def oracle_logprobs(self, tokens: list[int]) -> torch.Tensor:
        """Log-probabilities [length, vocab] after each token, float32."""
        with torch.no_grad():
            logits = self.oracle(torch.tensor([tokens])).logits[0]
        return torch.log_softmax(logits.double(), dim=-1).float()


def write_pair(variant: str, folder: Path) -> Pair:
    """The checkpoint of a variant, with its own seed."""
    write, changes = VARIANTS[variant]
    oracle = write(folder, seed=list(VARIANTS).index(variant), **changes)
    return Pair(folder, open_checkpoint(folder), oracle)
