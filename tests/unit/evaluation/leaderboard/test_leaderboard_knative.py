"""Knative's KPA as on the board, against its owner's unit table and against what the owner said.

The table: figures of knative/serving pkg/autoscaler/scaling/autoscaler_test.go at 01f103ef
(Apache-2.0), totals over the target. The recording: ten minutes of `kpa_replay.py` played by the
owner's own package; `tests/integration/evaluation/test_knative_against_upstream.py` made it and checks it.
"""

import json
from pathlib import Path

import pytest

from kpa_replay import TICK, means
from r1_evaluation.baselines.knative_kubeai import Panic, knative_begin, knative_step

RECORDED = Path(__file__).with_name("knative_v0.49.0.json")
NOW = 1000.0


@pytest.mark.parametrize(
    ("ready", "stable", "panic", "count"),
    [
        (1, 5.0, 1.0, 5),  # the stable mode rises
        (1, 10.0, 1.0, 10),
        (8, 10.0, 10.0, 10),  # 10 / 8 is no panic
        (8, 5.0, 5.0, 5),  # the stable mode falls
        (55, 50.0, 56.0, 50),  # the panic is over
    ],
)
def test_knatives_stable_mode(ready: int, stable: float, panic: float, count: int) -> None:
    long_ago = Panic(NOW - 61, 41)
    assert knative_step(long_ago, ready, stable, panic, NOW) == (count, Panic())


@pytest.mark.parametrize(
    ("ready", "stable", "panic", "highest", "count", "over"),
    [
        (1, 6.0, 6.0, 0, 6, True),
        (10, 11.0, 25.0, 0, 25, True),
        (40, 30.0, 41.0, 25, 41, False),  # half of the window later: still in it
        (40, 30.0, 80.0, 25, 80, True),  # crossed again: it goes on
        (40, 10.0, 10.0, 41, 41, False),  # never down
    ],
)
def test_knatives_panic_mode(
    ready: int, stable: float, panic: float, highest: int, count: int, over: bool
) -> None:
    since = NOW - 30
    state = knative_step(Panic(since, highest), ready, stable, panic, NOW)
    assert state == (count, Panic(NOW if over else since, count))


def test_a_panic_lasts_a_full_stable_window() -> None:
    assert knative_step(Panic(NOW - 60, 9), 9, 4.0, 4.0, NOW)[0] == 9
    assert knative_step(Panic(NOW - 60.001, 9), 9, 4.0, 4.0, NOW)[0] == 4


def test_knative_equals_the_recording_at_every_tick() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert recorded["source"] == "knative.dev/serving v0.49.0"
    rows = recorded["said"]
    assert len(rows) == 300
    state = knative_begin(rows[0][0], 0.0)
    for number, (ready, stable, panic, desired) in enumerate(rows, start=1):
        at = number * TICK
        assert means(recorded["values"], at) == pytest.approx((stable, panic), abs=1e-6)
        count, state = knative_step(state, ready, stable, panic, float(at))
        assert count == desired, f"at {at} s"
