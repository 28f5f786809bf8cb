"""Dynamic experts: the smallest set that reaches a mass, the same in three implementations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import MixtureOfExperts, ModelDescription, Scoring
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import Codec
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.mixture import Router
from r1_runtime.experts.dynamic_gate import DynamicGate, dynamic_routing

_SOFTMAX = MixtureOfExperts(
    experts=12,
    experts_per_token=3,
    inner=20,
    shared_inner=24,
    scoring=Scoring.SOFTMAX,
    correction_bias=False,
    normalise=True,
    scale=1.0,
)
NETWORKS = {
    "softmax": description(grouped(), _SOFTMAX),
    "softmax, unit weights": description(grouped(), replace(_SOFTMAX, unit_weights=True)),
    "sigmoid, groups, bias": description(latent(), EXPERTS),
}
GATES = [DynamicGate(0.5, 1, 12), DynamicGate(0.7, 2, 5), DynamicGate(1.0, 1, 12)]


def native_backend(
    network: ModelDescription, gate: DynamicGate | None, threads: int = 1
) -> CpuBackend:
    return CpuBackend(
        MemoryCheckpoint(network),
        codecs=Codecs(*[Codec.FLOAT32] * 4),
        blocks=16,
        block_size=16,
        threads=threads,
        gate=gate,
    )


def prompt(count: int = 40) -> list[int]:
    return [int(token) for token in np.random.default_rng(5).integers(1, 130, count)]


def test_the_smallest_set_that_reaches_the_mass_is_chosen() -> None:
    scores = np.array([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]], np.float32)
    chosen = dynamic_routing(scores, DynamicGate(0.75, 1, 4))
    assert chosen.starts.tolist() == [0, 2, 5]
    assert chosen.experts.tolist() == [0, 1, 0, 1, 2]
    assert chosen.mean == 2.5


def test_the_bounds_hold_below_and_above_the_mass() -> None:
    scores = np.array([[0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]], np.float32)
    chosen = dynamic_routing(scores, DynamicGate(0.9, 2, 3))
    assert np.diff(chosen.starts).tolist() == [2, 3]


def test_an_expert_that_is_not_eligible_is_neither_chosen_nor_counted() -> None:
    scores = np.array([[0.6, 0.2, 0.1, 0.1]], np.float32)
    eligible = np.array([[False, True, True, True]])
    chosen = dynamic_routing(scores, DynamicGate(0.5, 1, 8), eligible=eligible)
    assert chosen.experts.tolist() == [1]
    everything = dynamic_routing(scores, DynamicGate(1.0, 4, 8), eligible=eligible)
    assert everything.experts.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("mass", "minimum", "maximum"), [(0, 1, 2), (1.1, 1, 2), (0.5, 0, 2), (0.5, 3, 2)]
)
def test_a_gate_with_impossible_values_is_an_error(mass: float, minimum: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="mass|minimum"):
        DynamicGate(mass, minimum, maximum)


@pytest.mark.parametrize("gate", GATES, ids=str)
def test_the_reference_router_chooses_what_dynamic_routing_chooses(gate: DynamicGate) -> None:
    torch.manual_seed(0)
    router = Router(_SOFTMAX, 44)
    with torch.no_grad():
        router.weight.normal_(0, 0.4)
    router.dynamic = gate
    x = torch.randn(50, 44)
    experts, weights = router(x)
    scores = (x @ router.weight.T).softmax(-1).detach().numpy()
    expected = dynamic_routing(scores, gate)
    assert (weights > 0).sum(1).tolist() == np.diff(expected.starts).tolist()
    assert experts[weights > 0].tolist() == expected.experts.tolist()


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("gate", [None, *GATES], ids=str)
def test_the_native_step_equals_the_reference_with_dynamic_experts(
    network: ModelDescription, gate: DynamicGate | None
) -> None:
    plan = step_plan([Row(prompt(), 0, 40, range(3))])
    native = native_backend(network, gate)
    result, logits = native.step_with_logits(plan)
    reference = load_network(MemoryCheckpoint(network), gate=gate)
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt()]))[0].numpy()
    np.testing.assert_allclose(logits, expected, atol=3e-4)
    paged = ReferenceBackend(reference, 16, 16).step(plan)
    np.testing.assert_array_equal(result.tokens, paged.tokens)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_threads_and_chunks_do_not_change_dynamic_experts(network: ModelDescription) -> None:
    gate = DynamicGate(0.6, 2, 8)
    whole = native_backend(network, gate).step_with_logits(
        step_plan([Row(prompt(), 0, 40, range(3))])
    )[1]
    for threads in (2, 3):
        native = native_backend(network, gate, threads)
        parts = [
            native.step_with_logits(step_plan([Row(prompt(), at, at + 5, range(3))]))[1]
            for at in range(0, 40, 5)
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-4)


def test_the_totals_count_rows_and_chosen_experts() -> None:
    network = NETWORKS["softmax"]
    native = native_backend(network, DynamicGate(0.5, 2, 4))
    native.step(step_plan([Row(prompt(), 0, 40, range(3))]))
    totals = native.expert_totals()
    assert totals.rows == 40 * len(network.layers)
    assert 2 <= totals.mean_experts <= 4
    assert native.expert_uses().sum() == totals.chosen
    native.set_gate(None)
    native.step(step_plan([Row(prompt(), 0, 40, range(3))]))
    later = native.expert_totals()
    assert later.chosen - totals.chosen == 3 * (later.rows - totals.rows)
    native.close()
    assert native.expert_totals() == later
