"""A tiny untrained checkpoint with its own tokenizer, for tests.

    python -m r1_runtime.training.random_model DIR

It has every part of the architecture (two groups of experts, a shared one, a dense layer, query
compression) in under 1 MB and loads in milliseconds. Its output is random, but the same for a seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from r1_runtime.backends.reference.mixture import Router
from r1_runtime.training.export import save_checkpoint
from r1_runtime.training.initial import DEMO_CONFIG, initial_model
from r1_runtime.training.tokenizer import train_tokenizer, write_tokenizer

_TEXT = (
    "A pod is the smallest thing that a cluster runs. The scheduler puts it on a node.",
    "The gateway holds a request until a replica is ready, and says how long it waited.",
    "Naïve café — 東京, Привет, 🙂.",
)

TINY_CONFIG: dict[str, Any] = DEMO_CONFIG | {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "initializer_range": 0.3,
}


def write_random_model(folder: Path, seed: int = 0) -> None:
    """Write config, weights, tokenizer and chat template to `folder`."""
    tokenizer = train_tokenizer(_TEXT, TINY_CONFIG["vocab_size"])
    config = TINY_CONFIG | {"vocab_size": tokenizer.get_vocab_size()}
    model = initial_model(config, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Router):
            module.e_score_correction_bias.normal_(0, 0.1, generator=generator)
    save_checkpoint(model, config, folder)
    write_tokenizer(tokenizer, folder, config["max_position_embeddings"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_random_model(options.folder, options.seed)


if __name__ == "__main__":
    main()
