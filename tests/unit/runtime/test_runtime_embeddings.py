"""Pooled hidden states: equal on both backends, in chunks and after a preemption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engine_runs import run_requests
from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.step_plan import Backend
from r1_runtime.engine.messages import Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.sequence import Pooling

NETWORKS = {"grouped": description(grouped()), "latent": description(latent(), EXPERTS)}
PROMPTS = [np.random.default_rng(seed).integers(1, 130, 40 + seed).tolist() for seed in range(5)]
Hidden = NDArray[np.float32]


def backends(name: str) -> tuple[CpuBackend, ReferenceBackend]:
    checkpoint = MemoryCheckpoint(NETWORKS[name])
    native = CpuBackend(checkpoint, blocks=400, block_size=16, threads=2)
    return native, ReferenceBackend(load_network(checkpoint), 400, 16)


def hidden_of(backend: Backend, prompt: list[int]) -> Hidden:
    """[tokens, hidden] of a whole prompt in one step without an output row."""
    plan = step_plan([Row(prompt, 0, len(prompt), range(8))])
    rows = np.arange(len(prompt), dtype=np.int32)
    return backend.step(replace(plan, hidden_rows=rows)).hidden


@pytest.mark.parametrize("name", NETWORKS)
def test_native_hidden_states_equal_the_reference(name: str) -> None:
    native, reference = backends(name)
    expected = hidden_of(reference, PROMPTS[0])
    np.testing.assert_allclose(hidden_of(native, PROMPTS[0]), expected, atol=2e-4)
    some = np.array([0, 7, 39], np.int32)
    plan = replace(step_plan([Row(PROMPTS[0], 0, 40, range(8))]), hidden_rows=some)
    np.testing.assert_allclose(native.step(plan).hidden, expected[some], atol=2e-4)


def vectors(backend: Backend, pooling: Pooling, blocks: int = 400) -> dict[str, Hidden]:
    requests = [
        Request(str(at), tuple(prompt), SamplingParams(max_tokens=1), 0.0, pooling=pooling)
        for at, prompt in enumerate(PROMPTS)
    ]
    text = Request("text", tuple(PROMPTS[0]), SamplingParams(max_tokens=30, temperature=0), 0.0)
    return run_requests(
        backend, [text, *requests, replace(requests[0], id="again")], step_tokens=17, blocks=blocks
    ).embeddings


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("name", NETWORKS)
def test_chunks_and_the_prefix_cache_change_no_vector(name: str, pooling: Pooling) -> None:
    native, reference = backends(name)
    given = vectors(native, pooling)
    assert given.keys() == {*map(str, range(len(PROMPTS))), "again"}
    for at, prompt in enumerate(PROMPTS):
        hidden = hidden_of(reference, prompt).astype(np.float64)
        expected = hidden.mean(axis=0) if pooling is Pooling.MEAN else hidden[-1]
        np.testing.assert_allclose(given[str(at)], expected / np.linalg.norm(expected), atol=2e-5)
    np.testing.assert_allclose(given["again"], given["0"], atol=1e-5)


def test_a_tight_cache_changes_no_vector() -> None:
    native, _ = backends("grouped")
    roomy, tight = vectors(native, Pooling.MEAN), vectors(native, Pooling.MEAN, blocks=6)
    assert roomy.keys() == tight.keys()
    for name, vector in roomy.items():
        np.testing.assert_allclose(tight[name], vector, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_released_cache_refuses_steps_until_it_is_allocated_again(name: str) -> None:
    native, reference = backends(name)
    for backend in (native, reference):
        before = hidden_of(backend, PROMPTS[0])
        backend.release_cache()
        backend.allocate_cache()
        np.testing.assert_array_equal(hidden_of(backend, PROMPTS[0]), before)
    native.release_cache()
    with pytest.raises(RuntimeError, match="the cache is released"):
        hidden_of(native, PROMPTS[0])
