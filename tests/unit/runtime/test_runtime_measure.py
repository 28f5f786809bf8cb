"""Choice of data type and thread count from measured times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from r1_runtime.config import read_config
from r1_runtime.server.loading import _dtype
from r1_runtime.server.measure import (
    choose_dtype,
    choose_threads,
    measure_dtype,
    thread_candidates,
)
from r1_runtime.server.memory import Sizes, estimate_memory
from r1_runtime.server.options import resolve_model

CONFIG = read_config(resolve_model("bundled:demo"))
SIZES = Sizes(
    max_num_seqs=8, max_model_len=2048, max_step_tokens=256, block_size=16, num_blocks=None
)


def test_bfloat16_is_chosen_where_it_is_faster_in_the_geometric_mean() -> None:
    slow = {"float32": (0.387, 1.674, 4.372), "bfloat16": (0.389, 3.109, 25.82)}
    fast = {"float32": (0.387, 1.674, 4.372), "bfloat16": (0.2, 0.9, 1.0)}
    assert choose_dtype(slow).dtype == "float32"
    assert choose_dtype(fast).dtype == "bfloat16"
    assert "float32 0.39/1.67/4.37 ms; bfloat16 0.20/0.90/1.00 ms" in choose_dtype(fast).line()


@pytest.mark.parametrize(
    ("cpus", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 3]), (9, [1, 2, 4, 8])]
)
def test_one_of_three_or_more_cpus_stays_free_for_http(cpus: int, counts: list[int]) -> None:
    assert thread_candidates(cpus) == counts


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 0.9}, 1),
        ({1: 1.0, 2: 0.55, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.55, 4: 0.5}, 2),
        ({1: 1.0, 2: 13.0}, 1),
    ],
)
def test_more_threads_are_chosen_only_for_a_clear_gain(
    seconds: dict[int, float], chosen: int
) -> None:
    assert choose_threads(seconds) == chosen


def test_measurement_has_a_time_for_each_number_of_rows() -> None:
    choice = measure_dtype(CONFIG)
    assert all(time > 0 for times in choice.milliseconds.values() for time in times)
    assert {len(times) for times in choice.milliseconds.values()} == {3}


def test_model_that_fits_only_in_bfloat16_uses_bfloat16() -> None:
    least = estimate_memory(CONFIG, SIZES, "float32").total(SIZES.blocks_per_sequence)
    assert _dtype("auto", "cpu", CONFIG, SIZES, least - 1) == "bfloat16"
    exact = replace(CONFIG, dtype="float32")
    assert _dtype("auto", "cpu", exact, SIZES, least) == "float32"
    assert _dtype("auto", "cpu", exact, SIZES, least - 1) == "bfloat16"
    assert _dtype("float32", "cpu", CONFIG, SIZES, 0) == "float32"
    assert _dtype("auto", "cuda", CONFIG, SIZES, None) == "bfloat16"
