"""Admission by expected growth: learned output lengths, the peak of blocks, little recomputation."""

from __future__ import annotations

import random

import pytest

from r1_runtime.engine.admission import Growth, OutputLengths, growth_fits
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.scheduler import Scheduler
from scheduler_simulation import SimulatedRequest, SimulationResult, simulate

BLOCK = 16


def noted(*lengths: int, limited: bool = False) -> OutputLengths:
    learned = OutputLengths()
    for length in lengths:
        learned.note(length, limited=limited)
    return learned


def test_first_outputs_are_expected_to_have_256_more_tokens_or_their_limit() -> None:
    assert noted().remaining(0, 100) == 100
    assert noted().remaining(0, 10_000) == 256
    assert noted().remaining(1000, 10_000) == 1000


def test_expected_length_is_the_mean_of_longer_outputs() -> None:
    learned = noted(*[10] * 20, *[300] * 20)
    assert learned.remaining(0, 1000) == pytest.approx(155, abs=5)
    assert learned.remaining(10, 1000) == pytest.approx(290, abs=5)
    assert learned.remaining(0, 50) == pytest.approx(30, abs=3)


def test_outputs_that_ended_at_a_lower_limit_say_nothing_about_longer_ones() -> None:
    learned = noted(*[16] * 30, limited=True)
    learned.note(400, limited=False)
    assert learned.remaining(0, 1000) == pytest.approx((400 + 256) / 2)
    assert learned.remaining(0, 16) == 16


def test_old_outputs_are_forgotten() -> None:
    learned = noted(*[1000] * 64, *[10] * 64)
    assert learned.remaining(0, 1000) < 20


def test_an_output_at_its_limit_is_expected_to_end() -> None:
    assert noted().remaining(16, 16) == 1
    assert noted().remaining(20, 16) == 1


def test_growth_fits_when_one_sequence_ends_before_the_other_grows() -> None:
    ending = Growth(length=64, remaining=1, blocks=5, own=5)
    growing = Growth(length=64, remaining=80, blocks=4, own=4)
    assert growth_fits(9, 10, [ending, growing], BLOCK)
    assert not growth_fits(9, 10, [Growth(64, 80, 5, 5), growing], BLOCK)


def test_shared_blocks_are_not_free_after_the_end_of_one_sequence() -> None:
    ending = Growth(length=64, remaining=1, blocks=5, own=1)
    growing = Growth(length=64, remaining=80, blocks=4, own=0)
    assert not growth_fits(6, 7, [ending, growing], BLOCK)


def workload(kind: str, count: int) -> list[SimulatedRequest]:
    draw = random.Random(kind)
    return [
        SimulatedRequest(draw.randint(32, 256), *_output(kind, draw), arrival=float(index))
        for index in range(count)
    ]


def _output(kind: str, draw: random.Random) -> tuple[int, int]:
    """Length and limit of an output."""
    if kind == "limits":
        return 128, 128
    if kind == "uniform":
        return draw.randint(16, 256), 1024
    if kind == "two lengths":
        return draw.choice([8, 8, 8, 400]), 1024
    return min(1024, 1 + int(draw.expovariate(1 / 120))), 1024


def half_of_the_needed_blocks(requests: list[SimulatedRequest], seats: int) -> int:
    lengths = [request.prompt + request.output for request in requests]
    needed = seats * sum(lengths) / len(lengths) / BLOCK
    return max(int(needed / 2), -(-max(lengths) // BLOCK))


@pytest.mark.parametrize("kind", ["limits", "uniform", "two lengths", "exponential"])
def test_half_of_the_needed_blocks_cost_at_most_a_tenth_in_recomputed_tokens(kind: str) -> None:
    requests = workload(kind, 60)
    pool = BlockPool(half_of_the_needed_blocks(requests, seats=8), BLOCK)
    result = simulate(Scheduler(pool, 8, 256), requests)
    assert result.recomputed <= 0.1
    # Not by computing one request after the other.
    assert len(result.steps) < 0.5 * sum(request.output for request in requests)


def test_requests_with_the_same_expectation_start_in_the_order_of_their_arrival() -> None:
    requests = workload("uniform", 40)
    pool = BlockPool(half_of_the_needed_blocks(requests, seats=8), BLOCK)
    result = simulate(Scheduler(pool, 8, 256), requests)
    first_steps = _first_steps(result)
    assert first_steps == sorted(first_steps)


def _first_steps(result: SimulationResult) -> list[int]:
    first: dict[int, int] = {}
    for index, (step, _) in enumerate(result.steps):
        for chunk in step.chunks:
            first.setdefault(int(chunk.sequence.id), index)
    return [first[name] for name in sorted(first)]


def test_a_prompt_that_needs_the_whole_cache_runs_when_the_others_have_ended() -> None:
    requests = [SimulatedRequest(40, 30, 30) for _ in range(6)]
    requests.insert(2, SimulatedRequest(150, 10, 10))
    result = simulate(Scheduler(BlockPool(10, BLOCK), 4, 256), requests)
    assert len(result.finished) == 7
