"""Division of neurons: a shared part of the most active ones, and clusters of one size."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from r1_runtime.conversion.neuron_groups import group_neurons
from r1_runtime.conversion.text import fitting_texts, held_out_texts


def test_neurons_that_are_active_together_share_an_expert() -> None:
    generator = torch.Generator().manual_seed(0)
    bursts = (torch.rand(500, 3, generator=generator) < 0.3).float()
    activity = bursts.repeat_interleave(4, dim=1) * torch.rand(500, 12, generator=generator)
    always = 5 + torch.rand(500, 2, generator=generator)
    groups = group_neurons(torch.cat([activity, always], dim=1), 2, 3, seed=0)
    assert groups.shared.tolist() == [12, 13]
    assert sorted(groups.experts.tolist()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_every_neuron_is_in_one_part() -> None:
    activity = torch.rand(64, 40, generator=torch.Generator().manual_seed(2))
    groups = group_neurons(activity, 8, 4, seed=3)
    assert groups.experts.shape == (4, 8)
    assert sorted([*groups.shared.tolist(), *groups.experts.flatten().tolist()]) == list(range(40))


def test_sizes_that_do_not_divide_are_an_error() -> None:
    with pytest.raises(ValueError, match="not a multiple of 7 experts"):
        group_neurons(torch.rand(4, 40), 8, 7, seed=0)


def test_the_text_to_fit_with_and_the_text_to_measure_with_differ() -> None:
    fitting = set(islice(fitting_texts(), 60))
    measuring = set(held_out_texts())
    assert len(fitting) == 60
    assert len(measuring) > 50
    assert not fitting & measuring
