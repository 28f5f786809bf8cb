"""DeepSeek-V3's draft layer in the native library, beside the reference and on a whole checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_runs import Run, run_requests
from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
)
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend, packed_bytes
from r1_runtime.backends.cpu.library import Codec
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.step_plan import StepPlan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.engine.messages import Request
from r1_runtime.engine.sampling_params import SamplingParams
from tiny_checkpoints import write_deepseek_v3_with_drafts


def checkpoint_of(attention: GroupedQueryAttention | LatentAttention) -> MemoryCheckpoint:
    network = description(attention, EXPERTS)
    return MemoryCheckpoint(replace(network, draft_layer=Layer(attention, DenseFeedForward(36))))


def native(checkpoint: Checkpoint, threads: int = 1, codec: Codec | None = None) -> CpuBackend:
    return CpuBackend(
        checkpoint,
        codecs=Codecs(codec, codec, codec, codec),
        blocks=400,
        block_size=16,
        threads=threads,
        with_draft_layer=True,
    )


def with_next(plan: StepPlan, following: list[int]) -> StepPlan:
    return replace(plan, next_tokens=np.array(following, np.int32))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("attention", [latent(), latent(q_lora=None), grouped()])
def test_native_proposals_equal_those_of_the_reference(
    attention: GroupedQueryAttention | LatentAttention, threads: int
) -> None:
    checkpoint = checkpoint_of(attention)
    network = load_network(checkpoint, with_draft_layer=True)
    backends = (native(checkpoint, threads), ReferenceBackend(network, 400, 16))
    random = np.random.default_rng(3)
    first, second = (random.integers(1, 130, 60).tolist() for _ in range(2))
    for start, end in ((0, 33), (33, 34), (34, 36), (36, 37)):
        rows = [Row(first, start, end, range(4)), Row(second, start, end, range(4, 8))]
        following = [*first[start + 1 : end], -1, *second[start + 1 : end], -1]
        plan = with_next(step_plan(rows), following)
        mine, expected = (backend.step(plan) for backend in backends)
        np.testing.assert_array_equal(mine.tokens, expected.tokens)
        read = mine.drafts >= 0
        np.testing.assert_array_equal(mine.drafts[read], expected.drafts[read])
        # A proposal is read after a sequence's last row and after a row whose sampled token is not
        # the next row's.
        last = plan.output_rows == plan.query_starts[1:, None] - 1
        next_tokens = np.append(plan.tokens, -1)[plan.output_rows + 1]
        np.testing.assert_array_equal(read, last.any(0) | (mine.tokens != next_tokens))


def test_a_step_without_following_tokens_has_no_proposals() -> None:
    backend = native(checkpoint_of(latent()))
    assert not len(backend.step(step_plan([Row([4, 5, 6], 0, 3, range(1))])).drafts)


def test_a_following_token_outside_of_the_vocabulary_is_refused() -> None:
    backend = native(checkpoint_of(latent()))
    plan = with_next(step_plan([Row([4, 5, 6], 0, 3, range(1))]), [5, 131, -1])
    with pytest.raises(RuntimeError, match="following token"):
        backend.step(plan)


def drafted(backend: CpuBackend, requests: list[Request]) -> Run:
    return run_requests(
        backend,
        requests,
        drafter=lambda runner: runner.draft,
        max_drafts=1,
        model_drafts=True,
    )


def requests(temperature: float, vocabulary: int) -> list[Request]:
    random = np.random.default_rng(7)
    return [
        Request(
            str(seed),
            tuple(random.integers(1, vocabulary, 9 + 11 * seed).tolist()),
            SamplingParams(max_tokens=30, temperature=temperature, seed=seed, ignore_eos=True),
            0.0,
        )
        for seed in range(6)
    ]


@pytest.mark.parametrize("codec", [None, Codec.INT8])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_native_drafts_leave_the_output_of_a_deepseek_v3_checkpoint_unchanged(
    tmp_path: Path, temperature: float, codec: Codec | None
) -> None:
    checkpoint = open_checkpoint(write_deepseek_v3_with_drafts(tmp_path / "model"))
    backend = native(checkpoint, 2, codec)
    wanted = requests(temperature, checkpoint.description.vocab_size)
    plain = run_requests(backend, wanted)
    run = drafted(backend, wanted)
    assert run.tokens == plain.tokens
    assert not run.errors
    assert run.state.drafts == run.state.draft_tokens > 0


def test_a_layer_that_proposes_what_the_network_samples_is_accepted() -> None:
    # Layers that add nothing make the network a function of the last token alone. A projection of the
    # embedding then makes the draft layer compute the same function.
    network = replace(
        description(latent(), DenseFeedForward(52)),
        draft_layer=Layer(latent(), DenseFeedForward(52)),
    )
    checkpoint = MemoryCheckpoint(network)
    for name, values in checkpoint.weights.items():
        if "o_proj" in name or "down_proj" in name:
            values[:] = 0
        if "norm" in name:
            values[:] = 1
    hidden = network.hidden_size
    prefix = f"layers.{len(network.layers)}."
    checkpoint.weights[prefix + "eh_proj.weight"][:] = np.eye(hidden, 2 * hidden, dtype=np.float32)
    run = drafted(native(checkpoint), requests(0.0, 130))
    assert run.state.accepted_tokens == run.state.draft_tokens > 60


def test_packed_bytes_count_the_draft_layer_where_it_is_loaded() -> None:
    checkpoint = checkpoint_of(latent())
    without = packed_bytes(checkpoint, Codecs())
    prefix = f"layers.{len(checkpoint.description.layers)}."
    shapes = [one.shape for name, one in checkpoint.weights.items() if name.startswith(prefix)]
    rows = [
        (-(-shape[0] // 16) * 16, -(-shape[1] // 32) * 32) for shape in shapes if len(shape) == 2
    ]
    expected = sum(4 * height * width for height, width in rows)
    assert packed_bytes(checkpoint, Codecs(), with_draft_layer=True) - without == expected
