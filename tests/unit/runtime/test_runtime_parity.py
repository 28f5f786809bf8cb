"""Equality with `transformers`' DeepseekV3ForCausalLM, and between all computation paths.

`transformers` writes the checkpoints, so names and forms are the published ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from r1_runtime.config import read_config
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.sequence import Finish, SamplingParams, Sequence
from r1_runtime.models.deepseek_v3 import DeepseekV3
from r1_runtime.models.loader import load_model

VOCABULARY = 97
BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,
    "num_nextn_predict_layers": 0,
    "eos_token_id": None,
    "pad_token_id": 0,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "no query compression": {"q_lora_rank": None},
    "one group": {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "yarn": {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "yarn, uneven mscale": {
        "rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "factor": 8.0}
    },
    "yarn, no mscale": {"rope_parameters": YARN, "q_lora_rank": None},
    "tied": {"tie_word_embeddings": True},
    "weights not normalised": {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
    "two dense layers, two shared experts": {"first_k_dense_replace": 2, "n_shared_experts": 2},
    "biases, halves rotated": {"attention_bias": True, "rope_interleave": False},
    "odd sizes": {"hidden_size": 46, "moe_intermediate_size": 23, "rms_norm_eps": 1e-5},
}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS), ids=lambda name: name)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DeepseekV3, Any, Path]:
    """Our model and that of transformers, from the same random checkpoint."""
    transformers = pytest.importorskip("transformers")
    seed = list(CONFIGURATIONS).index(request.param)
    torch.manual_seed(seed)
    config = transformers.DeepseekV3Config(**(BASE | CONFIGURATIONS[request.param]))
    config._experts_implementation = "eager"  # its grouped kernel needs even sizes
    oracle = transformers.DeepseekV3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, value in oracle.state_dict().items():
            if name.endswith(("layernorm.weight", "norm.weight")):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("e_score_correction_bias", "bias")):
                value.normal_(0, 0.2)
            elif name.endswith("gate.weight"):
                value.normal_(0, 0.3)
    folder = tmp_path_factory.mktemp("checkpoint")
    oracle.save_pretrained(folder)
    return load_model(folder, dtype=torch.float32), oracle, folder


def prompts(count: int, shortest: int, step: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randint(1, VOCABULARY, (shortest + step * i,), generator=generator).tolist()
        for i in range(count)
    ]


def oracle_greedy(oracle: Any, prompt: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens and their logits."""
    out = oracle.generate(
        torch.tensor([prompt]),
        max_new_tokens=count,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits)


def paged_greedy(
    model: DeepseekV3, wanted: list[list[int]], count: int, *, blocks: int, seats: int, budget: int
) -> tuple[list[list[int]], list[list[torch.Tensor]], int]:
    """Tokens and their logits of each prompt through scheduler, paged cache and batching."""
    runner = Runner(model, blocks, block_size=4)
    scheduler = Scheduler(BlockPool(blocks, 4), seats, budget)
    # The limit is not applied here: the scheduler expects short outputs and admits early.
    greedy = SamplingParams(temperature=0, max_tokens=1)
    sequences = [
        Sequence(str(i), list(prompt), len(prompt), greedy, 0.0) for i, prompt in enumerate(wanted)
    ]
    logits_of: dict[str, list[torch.Tensor]] = {sequence.id: [] for sequence in sequences}
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        step = scheduler.schedule(0.0)
        tokens, context = runner.prepare(step)
        logits = model.forward_paged(tokens, runner.caches, context)
        scheduler.advance(step)
        sampling = [chunk.sequence for chunk in step.chunks if chunk.samples]
        for sequence, row in zip(sampling, logits, strict=True):
            logits_of[sequence.id].append(row)
            sequence.tokens.append(int(row.argmax()))
            if sequence.generated == count:
                scheduler.finish(sequence, Finish.LENGTH)
        scheduler.check_integrity()
    outputs = [sequence.tokens[sequence.prompt_length :] for sequence in sequences]
    return outputs, [logits_of[sequence.id] for sequence in sequences], scheduler.preemptions


def test_logits_of_whole_sequences_agree(pair: tuple[DeepseekV3, Any, Path]) -> None:
    model, oracle, _ = pair
    tokens = torch.tensor([prompt[:100] for prompt in prompts(2, 100, 1)])
    with torch.no_grad():
        theirs = oracle(tokens).logits
        ours = model(tokens)
    assert theirs.std() > 0.1, "the oracle's logits are too flat to prove anything"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_batched_paged_chunked_greedy_tokens_agree(pair: tuple[DeepseekV3, Any, Path]) -> None:
    """Five prompts of 3 to 63 tokens in one batch, chunks of at most 16 tokens."""
    model, oracle, _ = pair
    wanted = prompts(5, 3, 15)
    ours, logits, _ = paged_greedy(model, wanted, 12, blocks=128, seats=5, budget=16)
    for prompt, tokens, rows in zip(wanted, ours, logits, strict=True):
        expected, theirs = oracle_greedy(oracle, prompt, 12)
        assert tokens == expected
        torch.testing.assert_close(torch.stack(rows), theirs.float(), atol=1e-4, rtol=0)


def test_preemption_changes_no_token(pair: tuple[DeepseekV3, Any, Path]) -> None:
    """A cache of 14 blocks of 4 tokens fits two of four sequences: the others are preempted."""
    model, _, _ = pair
    wanted = prompts(4, 10, 3)
    roomy, _, none = paged_greedy(model, wanted, 16, blocks=128, seats=4, budget=32)
    tight, _, some = paged_greedy(model, wanted, 16, blocks=14, seats=4, budget=32)
    assert (none, tight) == (0, roomy)
    assert some > 0


def test_both_forms_of_config_json_parse_to_the_same_value(
    pair: tuple[DeepseekV3, Any, Path], tmp_path: Path
) -> None:
    _, _, folder = pair
    raw = json.loads((folder / "config.json").read_text())
    rope = dict(raw.pop("rope_parameters"))
    raw["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    raw["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    raw["torch_dtype"] = raw.pop("dtype")
    raw |= {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert read_config(tmp_path) == read_config(folder)


def test_bfloat16_selects_the_same_token_except_in_near_ties(
    pair: tuple[DeepseekV3, Any, Path],
) -> None:
    model, _, folder = pair
    rough = load_model(folder, dtype=torch.bfloat16)
    tokens = torch.tensor([prompts(1, 64, 0)[0]])
    exact, coarse = model(tokens)[0], rough(tokens)[0].float()
    best = exact.topk(2).values
    # A different expert changes logits a lot, so only most positions have to agree.
    clear = (best[:, 0] - best[:, 1]) > 0.5 * exact.std()
    agree = exact.argmax(-1) == coarse.argmax(-1)
    assert agree[clear].float().mean() > 0.7
