"""Decode speed of transformers on the same network: `python -m r1_bench.runtime.measurements.transformers`.

In a process of its own, without HTTP, which is in its favour. Random weights, because speed does not
depend on them; float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.models import RANDOM_MODELS, RandomModel

PEER = "transformers"
STREAMS = (1, 4, 8)
_SMOLLM2 = RandomModel("smollm2", 576, 30, 9, 1536, 4, kv_heads=3)
_SMOLLM2_VOCABULARY = 49152
_BAR = 2.0


def _configuration(name: str) -> Any:
    from transformers import DeepseekV3Config, LlamaConfig

    model = _SMOLLM2 if name == "smollm2" else RANDOM_MODELS[name]
    common = {
        "vocab_size": _SMOLLM2_VOCABULARY if name == "smollm2" else model.vocabulary,
        "hidden_size": model.hidden,
        "intermediate_size": model.inner,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads or model.heads,
        "tie_word_embeddings": name == "smollm2",
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    if not model.kv_lora:
        return LlamaConfig(head_dim=model.head_dim, **common)
    return DeepseekV3Config(
        q_lora_rank=model.q_lora,
        kv_lora_rank=model.kv_lora,
        qk_nope_head_dim=model.nope,
        qk_rope_head_dim=model.rope,
        v_head_dim=model.value,
        n_routed_experts=model.experts,
        num_experts_per_tok=model.used,
        n_shared_experts=1,
        moe_intermediate_size=model.expert_inner,
        n_group=model.groups,
        topk_group=max(1, model.groups // 2),
        first_k_dense_replace=1,
        **common,
    )


def measure(name: str, output: int) -> dict[int, float]:
    """Tokens per CPU second by number of streams, greedy, after a prompt of 16 tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_configuration(name)).eval()
    rates = {}
    with torch.inference_mode():
        for streams in STREAMS:
            prompt = torch.randint(8, 4000, (streams, 16))
            mask = torch.ones_like(prompt)
            generate = {"attention_mask": mask, "do_sample": False}
            model.generate(prompt, max_new_tokens=2, min_new_tokens=2, **generate)
            started = time.process_time()
            model.generate(prompt, max_new_tokens=output, min_new_tokens=output, **generate)
            rates[streams] = streams * output / (time.process_time() - started)
    return rates


def transformers_rows(name: str, rows: list[BenchmarkRow], output: int) -> Iterator[BenchmarkRow]:
    """Ours of `rows` (float32, one thread, greedy, per CPU second) beside transformers."""
    mine = {
        streams: row.ours
        for streams in STREAMS
        for row in rows
        if row.name == f"{name} F32, 1 threads, decode, {streams} streams, greedy, per CPU second"
    }
    if not mine:
        return
    command = [sys.executable, "-m", __name__, name, str(output)]
    done = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    rates = json.loads(done.stdout.splitlines()[-1])
    for streams, value in mine.items():
        yield BenchmarkRow(
            f"{name} F32, 1 threads, decode, {streams} streams, greedy, per CPU second, {PEER}",
            "tokens/s",
            value,
            PEER,
            rates[str(streams)],
            _BAR,
            higher_is_better=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime.measurements.transformers", description=__doc__
    )
    parser.add_argument("model")
    parser.add_argument("output", type=int, help="output tokens")
    given = parser.parse_args()
    print(json.dumps(measure(given.model, given.output)))
