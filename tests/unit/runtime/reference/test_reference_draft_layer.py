"""DeepSeek-V3's layer for a second token: its logits, its checkpoint, and unchanged output."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engine_runs import run_requests
from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import Layer
from r1_runtime.architecture.weight_names import draft_weight_shapes
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.backends.reference.step_layout import step_layout
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.engine.messages import Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.errors import ModelLoadError
from r1_runtime.server.loading import StartupTimes, load
from r1_runtime.server.options import parse_options
from tiny_checkpoints import write_deepseek_v3_with_drafts

PLAIN = description(latent(), EXPERTS)
NETWORK = replace(PLAIN, draft_layer=Layer(latent(), EXPERTS))
CPU = torch.device("cpu")


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + NETWORK.norm_eps).sqrt() * weight


@torch.inference_mode()
def direct_logits(checkpoint: MemoryCheckpoint, tokens: list[int]) -> torch.Tensor:
    """[length - 1, vocab] logits of the layer over a whole sequence, without a cache."""
    network = load_network(checkpoint, with_draft_layer=True)
    layer = network.draft_layer
    assert layer is not None
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    positions = torch.arange(len(tokens))
    x = weights["embed_tokens.weight"][tokens][None]
    for each in network.decoder_layers():
        x = each(x, *cos_sin(each.rope, positions))
    state = normed(x, weights["norm.weight"])[:, :-1]
    prefix = f"layers.{len(NETWORK.layers)}."
    following = weights["embed_tokens.weight"][tokens[1:]][None]
    joined = torch.cat(
        (
            normed(following, weights[prefix + "enorm.weight"]),
            normed(state, weights[prefix + "hnorm.weight"]),
        ),
        dim=-1,
    )
    x = joined @ weights[prefix + "eh_proj.weight"].T
    x = layer(x, *cos_sin(layer.rope, positions[:-1]))
    x = normed(x, weights[prefix + "shared_head.norm.weight"])
    return (x @ weights["lm_head.weight"].T)[0]


def ints(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def test_paged_logits_of_the_draft_layer_equal_a_direct_computation() -> None:
    checkpoint = MemoryCheckpoint(NETWORK)
    network = load_network(checkpoint, with_draft_layer=True)
    backend = ReferenceBackend(network, 8, 16)
    tokens = np.random.default_rng(1).integers(1, 130, 41).tolist()
    parts = []
    for start, end in ((0, 13), (13, 14), (14, 40)):
        layout = step_layout(step_plan([Row(tokens, start, end, range(4))]), 16, CPU)
        state = network.hidden_paged(backend.caches[:-1], layout)
        following = torch.tensor(tokens[start + 1 : end + 1])
        parts.append(network.draft_paged(state, following, backend.caches[-1], layout))
    expected = direct_logits(checkpoint, tokens)
    np.testing.assert_allclose(torch.cat(parts).numpy(), expected.numpy(), atol=2e-5)


def test_a_step_proposes_the_layer_s_most_probable_token_after_the_sampled_one() -> None:
    checkpoint = MemoryCheckpoint(NETWORK)
    backend = ReferenceBackend(load_network(checkpoint, with_draft_layer=True), 8, 16)
    tokens = np.random.default_rng(2).integers(1, 130, 20).tolist()
    plan = step_plan([Row(tokens, 0, 20, range(4))])
    result = backend.step(replace(plan, next_tokens=ints([*tokens[1:], -1])))
    expected = direct_logits(checkpoint, [*tokens, int(result.tokens[-1])]).argmax(-1)
    assert result.drafts[-1] == expected[-1]
    assert not len(backend.step(plan).drafts)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_model_s_own_drafts_leave_the_output_unchanged(temperature: float) -> None:
    network = load_network(MemoryCheckpoint(NETWORK), with_draft_layer=True)
    draft = network.draft_layer
    assert draft is not None
    requests = [
        Request(
            str(seed),
            tuple(np.random.default_rng(seed).integers(1, 130, 9 + seed).tolist()),
            SamplingParams(max_tokens=24, temperature=temperature, seed=seed),
            0.0,
        )
        for seed in range(5)
    ]
    plain = run_requests(ReferenceBackend(network, 400, 16), requests)
    drafted = run_requests(
        ReferenceBackend(network, 400, 16),
        requests,
        drafter=lambda runner: runner.draft,
        max_drafts=1,
        model_drafts=True,
    )
    assert drafted.tokens == plain.tokens
    assert drafted.state.draft_tokens == drafted.state.drafts > 0


def test_published_names_of_the_draft_layer_are_read(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_deepseek_v3_with_drafts(tmp_path / "model"))
    assert draft_weight_shapes(checkpoint.description).keys() <= checkpoint.names()
    network = load_network(checkpoint, with_draft_layer=True)
    assert network.draft_layer is not None
    assert load_network(checkpoint).draft_layer is None


def test_a_checkpoint_whose_draft_layer_was_not_published_opens_without_it(tmp_path: Path) -> None:
    folder = write_deepseek_v3_with_drafts(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "eh_proj" not in name}
    shutil.copytree(folder, tmp_path / "other")
    save_file(kept, tmp_path / "other" / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path / "other")
    assert not draft_weight_shapes(checkpoint.description).keys() & checkpoint.names()
    options = ("--speculation", "mtp", "--backend", "reference", "--threads", "1")
    with pytest.raises(ModelLoadError, match="no layer that drafts tokens"):
        start(tmp_path / "other", *options)


def start(folder: Path, *options: str) -> None:
    given = parse_options(["--model-path", str(folder), *options])
    load(given, lambda outputs, state: None, StartupTimes({}, 0.0)).engine.stop(5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_mtp_starts_on_the_backends_of_a_cpu(tmp_path: Path, backend: str) -> None:
    folder = write_deepseek_v3_with_drafts(tmp_path / "model")
    start(folder, "--speculation", "mtp", "--backend", backend, "--threads", "1")
