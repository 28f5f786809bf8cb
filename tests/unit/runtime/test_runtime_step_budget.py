"""Steps stay within 50 ms while others decode, on machines of different speed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.step_cost import StepCost, chunk_attended
from scheduler_simulation import (
    SimulatedRequest,
    SimulationResult,
    attended,
    is_mixed,
    simulate,
)

Machine = Callable[[Step], float]


def linear(constant: float, per_row: float, per_entry: float) -> Machine:
    """A machine by milliseconds per step, per row and per 1,000 cache entries."""
    return lambda step: (
        (constant + per_row * step.tokens + per_entry * attended(step) / 1000) / 1000
    )


def roofline(read: float, per_row: float) -> Machine:
    """A step is bound by reading the weights or by arithmetic, in milliseconds."""
    return lambda step: max(read, per_row * step.tokens) / 1000 + 1e-8 * attended(step)


def noisy(machine: Machine, share: float) -> Machine:
    draw = random.Random(3)
    return lambda step: machine(step) * draw.uniform(1 - share, 1 + share)


MACHINES: dict[str, Machine] = {
    "fast": linear(0.4, 0.02, 0.001),
    "laptop": linear(5, 0.3, 0.01),
    "slow": linear(8, 1.5, 0.02),
    "long context": linear(1, 0.05, 0.5),
    "roofline": roofline(12, 0.4),
    "noise of 8 percent": noisy(linear(5, 0.3, 0.01), 0.08),
}

DECODING = [SimulatedRequest(100, 400, 400) for _ in range(3)]
PROMPTS = [SimulatedRequest(2000, 4, 4, arrival=0.5 + 0.5 * index) for index in range(2)]
MANY_PROMPTS = [SimulatedRequest(6000, 4, 4, arrival=0.02 + 0.001 * index) for index in range(9)]


def run(machine: Machine, requests: list[SimulatedRequest]) -> SimulationResult:
    engine = Scheduler(BlockPool(4000, 16), 8, 8192)
    return simulate(engine, requests, machine, engine.note_duration, check=False)


def mixed_seconds(result: SimulationResult) -> list[float]:
    return [seconds for step, seconds in result.steps if is_mixed(step)]


@pytest.mark.parametrize("name", MACHINES)
def test_step_takes_at_most_50_ms_while_others_decode_after_ten_steps(name: str) -> None:
    prompts = MANY_PROMPTS if name == "fast" else PROMPTS
    mixed = mixed_seconds(run(MACHINES[name], DECODING + prompts))
    assert len(mixed) > 10
    assert max(mixed[10:]) <= 0.05


@pytest.mark.parametrize("name", ["laptop", "slow", "roofline", "long context"])
def test_prompt_uses_most_of_the_50_ms(name: str) -> None:
    mixed = mixed_seconds(run(MACHINES[name], DECODING + PROMPTS[:1]))
    assert sorted(mixed)[len(mixed) // 2] >= 0.025


def test_prompt_alone_has_the_whole_token_budget() -> None:
    result = run(MACHINES["slow"], [SimulatedRequest(3000, 1, 1)])
    assert [step.tokens for step, _ in result.steps] == [3000]


def test_two_prompts_without_a_decoding_sequence_have_the_whole_token_budget() -> None:
    result = run(MACHINES["slow"], [SimulatedRequest(3000, 1, 1), SimulatedRequest(3000, 1, 1)])
    assert [step.tokens for step, _ in result.steps] == [6000]


def test_prompt_progresses_by_16_tokens_on_a_machine_that_takes_longer_for_one_row() -> None:
    result = run(linear(60, 1, 0), [*DECODING[:1], SimulatedRequest(160, 2, 2, arrival=0.5)])
    counts = [
        chunk.count for step, _ in result.steps for chunk in step.chunks if chunk.sequence.id == "1"
    ]
    assert all(count in (16, 17) for count in counts[:-2])


def test_machine_that_becomes_slower_is_learned_within_four_prompt_steps() -> None:
    quiet, busy = linear(5, 0.3, 0.01), linear(10, 0.6, 0.02)
    engine = Scheduler(BlockPool(4000, 16), 8, 8192)
    seen = 0

    def machine(step: Step) -> float:
        nonlocal seen
        seen += is_mixed(step)
        return quiet(step) if seen < 15 else busy(step)

    result = simulate(engine, DECODING + PROMPTS, machine, engine.note_duration, check=False)
    assert max(mixed_seconds(result)[18:]) <= 0.05


def test_urgent_prompt_gets_the_duration_before_a_batch_prompt() -> None:
    requests = [
        DECODING[0],
        SimulatedRequest(2000, 2, 2, arrival=0.5, priority=2),
        SimulatedRequest(600, 2, 2, arrival=0.8, priority=0),
    ]
    result = run(MACHINES["laptop"], requests)
    assert result.finished["2"] < result.finished["1"]
    batch_counts = []
    for step, _ in result.steps:
        chunks = {chunk.sequence.id: chunk for chunk in step.chunks}
        if "2" in chunks and chunks["2"].start + chunks["2"].count < 600:
            batch_counts.append(chunks["1"].count)
    assert len(batch_counts) > 2
    assert set(batch_counts) == {1}
    assert max(mixed_seconds(result)[10:]) <= 0.05


def test_single_slow_step_changes_neither_the_prediction_nor_the_margin() -> None:
    cost = StepCost()
    for rows in [1, 64, 128] * 12:
        cost.observe(rows, 100 * rows, 0.005 + 0.0003 * rows)
    before = cost.predict(100, 10_000)
    cost.observe(64, 6400, 5.0)
    assert cost.predict(100, 10_000) == pytest.approx(before, rel=0.02)
    assert cost.margin == pytest.approx(1.1)


def test_prediction_is_exact_on_a_linear_machine() -> None:
    cost = StepCost()
    for rows, context in [(1, 100), (1, 5000), (8, 300), (64, 64), (300, 2000), (500, 100)]:
        cost.observe(rows, rows * context, 0.004 + 2e-4 * rows + 3e-8 * rows * context)
    assert cost.predict(100, 50_000) == pytest.approx(0.004 + 0.02 + 0.0015, rel=1e-6)


def test_memory_of_the_learned_durations_is_bounded() -> None:
    cost = StepCost()
    draw = random.Random(1)
    for _ in range(1500):
        rows = draw.randint(1, 4096)
        cost.observe(rows, rows * draw.randint(1, 2**17), draw.random())
    assert len(cost._groups) <= 13 * 18


def test_step_grows_at_most_to_twice_the_rows_observed() -> None:
    cost = StepCost()
    assert cost.most_tokens(1, 10, 0, 1000, 0.05) == 0
    cost.observe(20, 400, 0.001)
    assert cost.most_tokens(4, 10, 0, 1000, 0.05) == 36
    assert cost.most_tokens(4, 10, 1000, 1000, 0.05) == 1  # 1,600 cache entries


def test_entries_read_by_a_chunk_are_the_sum_over_its_rows() -> None:
    assert chunk_attended(10, 3) == 11 + 12 + 13
