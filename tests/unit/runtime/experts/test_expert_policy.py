"""Options of experts: what they become, and what refuses them by name at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest

from memory_checkpoint import EXPERTS, description, grouped
from r1_runtime.architecture.description import MixtureOfExperts
from r1_runtime.backends.cpu.backend import Codecs
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.backends.selection import BackendChoice
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.experts.residency import ExpertTotals, write_profile
from r1_runtime.server.expert_policy import ExpertPolicy, expert_policy, with_most_experts
from r1_runtime.server.metrics import RuntimeMetrics

MIXTURE = description(grouped(), EXPERTS)
DENSE = description(grouped())


def policy(
    network: Any = MIXTURE, backend: str = "cpu", ranks: int = 1, **options: Any
) -> ExpertPolicy:
    choice = BackendChoice(backend, "cpu", Codecs(), "float32", CacheType.FLOAT32, False, ())
    return expert_policy(R1Config(base_model="m", **options), network, choice, ranks)


def test_without_options_every_expert_is_in_memory_and_the_model_decides() -> None:
    assert policy() == ExpertPolicy()
    assert policy(DENSE) == ExpertPolicy()


def test_the_options_become_a_gate_and_a_residency(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    write_profile(profile, np.ones((2, 8), np.uint64), {})
    made = policy(
        expert_mass=0.8,
        min_experts=1,
        max_experts=6,
        resident_experts=0.7,
        expert_profile=str(profile),
        expert_folder=str(tmp_path),
    )
    assert made.gate == DynamicGate(0.8, 1, 6)
    assert made.residency is not None
    assert (made.residency.fraction, made.residency.folder) == (0.7, tmp_path)
    assert made.resident_fraction == 0.7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": DENSE, "expert_mass": 0.9}, "--expert-mass needs a mixture of experts"),
        ({"network": DENSE, "resident_experts": 0.7}, "--resident-experts needs a mixture"),
        ({"backend": "cuda", "expert_mass": 0.9}, "the CUDA backend serves"),
        ({"backend": "reference", "ranks": 2, "expert_mass": 0.9}, "2 ranks compute the model"),
        ({"backend": "reference", "resident_experts": 0.5}, "native CPU backend"),
        ({"expert_mass": 0.9, "min_experts": 9}, "--min-experts, --max-experts"),
        ({"expert_mass": 0.0}, "mass is 0"),
        ({"resident_experts": 0.5, "expert_profile": "/none"}, "--expert-profile /none"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        policy(**given)


def test_memory_is_reserved_for_the_largest_number_of_experts() -> None:
    [layer, _] = with_most_experts(MIXTURE, DynamicGate(0.5, 1, 16)).layers
    assert isinstance(layer.feed_forward, MixtureOfExperts)
    assert layer.feed_forward.experts_per_token == 4  # two of four groups with two experts each
    assert with_most_experts(MIXTURE, None) is MIXTURE


def test_the_totals_are_exported_as_metrics() -> None:
    metrics = RuntimeMetrics("m")
    totals = [ExpertTotals()]
    metrics.follow_experts(lambda: totals[0])
    assert b"expert" not in generate_latest(metrics.registry)
    totals[0] = ExpertTotals(rows=10, chosen=35, hits=6, misses=2, promotions=1, file_bytes=64)
    text = metrics.render().decode()
    assert 'r1_runtime_experts_per_token{engine="0",model_name="m"} 3.5' in text
    assert 'r1_runtime_expert_misses_total{engine="0",model_name="m"} 2.0' in text
