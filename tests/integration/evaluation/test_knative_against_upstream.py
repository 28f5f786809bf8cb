"""Knative's own autoscaler beside ours: the same windows and the same count at every tick.

Its Go package is nobody's dependency here: `make knative` builds a player of it into the cache, and
where that has not been done this story is not told. `R1_RECORD=FILE` writes down what the owner
said, for the unit test that holds ours to it anywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpa_replay import Tick, Verdict, load, means, play
from r1_cluster.programs import knative
from r1_evaluation.baselines import knative_kubeai

PROGRAM = knative.program()
pytestmark = pytest.mark.skipif(
    not PROGRAM.is_file(), reason="Knative's own autoscaler is not built here: make knative"
)


@contextmanager
def owner() -> Iterator[Callable[[Tick], Verdict]]:
    """Knative's own code."""
    with subprocess.Popen(
        [str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def decide(tick: Tick) -> Verdict:
            request = {"at": tick.at, "ready": tick.ready, "values": tick.values}
            print(json.dumps(request), file=stdin, flush=True)
            return Verdict(**json.loads(stdout.readline()))

        yield decide
        stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize(("seed", "first"), [(1, 1), (2, 8), (3, 1), (4, 30)])
def test_every_tick_equals_knatives_autoscaler(seed: int, first: int) -> None:
    values = load(1800, seed)
    with owner() as decide:
        ticks = play(values, decide, first)
    state = knative_kubeai.knative_begin(ticks[0][0].ready, 0.0)
    panics = 0
    for tick, verdict in ticks:
        stable, panic = means(values, tick.at)
        assert verdict.stable == pytest.approx(stable, abs=1e-6)
        assert verdict.panic == pytest.approx(panic, abs=1e-6)
        count, state = knative_kubeai.knative_step(state, tick.ready, stable, panic, float(tick.at))
        assert count == verdict.desired, f"at {tick.at} s with {tick.ready} ready"
        panics += state.at == tick.at
    assert panics > 5, "a series without a panic shows half of the rules"
    assert len({verdict.desired for _, verdict in ticks}) > 8


def test_the_recording_equals_knatives_autoscaler() -> None:
    recorded = (
        Path(__file__).parents[2] / "unit" / "evaluation" / "leaderboard" / "knative_v0.49.0.json"
    )
    values = load(600, 7)
    with owner() as decide:
        rows = [
            [tick.ready, verdict.stable, verdict.panic, verdict.desired]
            for tick, verdict in play(values, decide, 1)
        ]
    text = {"source": f"{knative.MODULE} {knative.version()}", "values": values, "said": rows}
    if "R1_RECORD" in os.environ:
        Path(os.environ["R1_RECORD"]).write_text(json.dumps(text) + "\n")
    assert json.loads(recorded.read_text()) == text
