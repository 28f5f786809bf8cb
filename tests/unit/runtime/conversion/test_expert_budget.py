"""Experts of each layer by their error, and the temperatures that make one mass mean them."""

from __future__ import annotations

import pytest
import torch

from r1_runtime.conversion.expert_budget import (
    allocate_experts,
    calibrate,
    mean_count,
    temperature_factor,
)


def test_experts_go_to_the_layer_whose_error_falls_most() -> None:
    steep = [1.0, 0.5, 0.25, 0.1, 0.0]
    flat = [0.1, 0.08, 0.05, 0.02, 0.0]
    assert allocate_experts([steep, flat], 4, 0) == [4, 0]
    assert allocate_experts([steep, flat], 6, 1) == [4, 2]


def test_a_flat_start_does_not_hide_a_later_fall() -> None:
    late = [1.0, 1.0, 0.0]
    even = [1.0, 0.7, 0.4]
    assert allocate_experts([late, even], 2, 0) == [2, 0]


def test_all_experts_are_given_away_at_most_once() -> None:
    assert allocate_experts([[1.0, 0.0], [1.0, 0.0]], 10, 0) == [1, 1]


def test_the_temperature_factor_reaches_the_wanted_mean() -> None:
    logits = torch.randn(400, 24, generator=torch.Generator().manual_seed(0))
    for wanted in (4.0, 12.0, 20.0):
        factor = temperature_factor(logits, 0.9, 2, wanted)
        assert mean_count(logits * factor, 0.9, 2) == pytest.approx(wanted, abs=0.1)


def test_the_calibration_has_the_wanted_mean_over_all_layers() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(300, 8, generator=generator) for _ in range(3)]
    errors = [[scale * (8 - k) / 8 for k in range(9)] for scale in (1.0, 0.5, 0.01)]
    counts, factors = calibrate(logits, errors, 4.0, 0.9, 1)
    assert sum(counts) == 12
    means = [mean_count(one * f, 0.9, 1) for one, f in zip(logits, factors, strict=True)]
    assert sum(means) / 3 == pytest.approx(4.0, abs=0.2)
