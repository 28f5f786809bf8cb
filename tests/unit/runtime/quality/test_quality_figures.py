"""Figures per document and their paired differences."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from r1_runtime.quality.figures import Figure, FigureKind, difference, differences

NAMES = tuple(f"document {number}" for number in range(20))


def perplexity(losses: list[float], tokens: float = 100.0, name: str = "perplexity") -> Figure:
    totals = tuple(loss * tokens for loss in losses)
    return Figure(
        name, FigureKind.PERPLEXITY, NAMES[: len(losses)], totals, (tokens,) * len(losses)
    )


def share(right: list[float], name: str = "retrieval") -> Figure:
    return Figure(name, FigureKind.SHARE, NAMES[: len(right)], tuple(right), (1.0,) * len(right))


def varied(seed: int = 0) -> list[float]:
    values: list[float] = np.random.default_rng(seed).uniform(1.5, 4.5, 20).tolist()
    return values


def test_perplexity_weighs_tokens_not_documents() -> None:
    figure = Figure("perplexity", FigureKind.PERPLEXITY, NAMES[:2], (10.0, 90.0), (10.0, 30.0))
    assert figure.value == pytest.approx(math.exp(100 / 40))


def test_pairing_shows_a_difference_that_is_small_against_that_of_the_documents() -> None:
    base = varied()
    worse = [loss + 0.002 + 0.0005 * (number % 3) for number, loss in enumerate(base)]
    found = difference(perplexity(worse), perplexity(base))
    assert 0.2 < found.low <= found.change <= found.high < 0.35
    assert found.loss == found.change
    assert found.most_loss == found.high


def test_noise_without_a_difference_has_zero_in_its_interval() -> None:
    base = varied()
    noise = np.random.default_rng(5).normal(0, 0.01, 20)
    found = difference(
        perplexity((np.array(base) + noise - noise.mean()).tolist()), perplexity(base)
    )
    assert found.low < 0 < found.high


def test_interval_covers_the_true_difference_in_about_95_of_100_samples() -> None:
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        base = generator.uniform(1.5, 4.5, 20)
        worse = base + generator.normal(0.01, 0.01, 20)
        found = difference(perplexity(worse.tolist()), perplexity(base.tolist()), draws=400)
        covered += found.low <= 100 * (math.exp(0.01) - 1) <= found.high
    assert covered >= 50


def test_share_is_compared_in_points_and_lower_is_worse() -> None:
    found = difference(share([1.0, 0.0, 1.0, 0.0]), share([1.0, 1.0, 1.0, 0.0]))
    assert (found.value, found.baseline, found.change) == (0.5, 0.75, -25.0)
    assert found.loss == 25.0
    assert found.most_loss >= 25.0
    assert found.retained == pytest.approx(2 / 3)


def test_equal_evaluations_differ_by_exactly_zero() -> None:
    found = difference(perplexity(varied()), perplexity(varied()))
    assert (found.change, found.low, found.high) == (0.0, 0.0, 0.0)


def test_figures_of_other_documents_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not about the same documents"):
        difference(share([1.0, 0.0]), share([1.0]))


def test_differences_are_of_the_figures_that_both_have() -> None:
    ours = [perplexity(varied()), share([1.0, 0.0])]
    assert [each.name for each in differences(ours, [share([1.0, 1.0])])] == ["retrieval"]


def test_figure_survives_json() -> None:
    figure = perplexity(varied())
    assert Figure.from_json(json.loads(json.dumps(figure.to_json()))) == figure


def test_share_without_a_document_is_not_a_number() -> None:
    assert math.isnan(share([]).value)
