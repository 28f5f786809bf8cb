"""The engine loop with a fake runner: ends, aborts, and isolation of failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Rows
from typing import Any

import pytest

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request, SampledRow
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence

END = 0


class FakeRunner:
    """Generates the alphabet; the prompt's first token is the number of tokens."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.released: list[str] = []
        self.nonsense_for: set[str] = set()
        self.not_finite: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def execute(self, step: Step) -> list[SampledRow]:
        self.entered.set()
        assert self.gate.wait(60)
        if any(chunk.sequence.id in self.broken for chunk in step.chunks):
            raise RuntimeError("broken step")
        sampling = [chunk.sequence for chunk in step.chunks if chunk.samples]
        return [SampledRow(sequence, self.next_token(sequence)) for sequence in sampling]

    def next_token(self, sequence: Sequence) -> int | None:
        if sequence.id in self.not_finite:
            return None
        if sequence.id in self.nonsense_for:
            return 10**9  # not valid for chr(): the detokenizer raises
        count = sequence.generated
        return END if count >= sequence.tokens[0] else 97 + count % 26

    def release(self, sequence: Sequence) -> None:
        self.released.append(sequence.id)


def decode(tokens: Rows[int]) -> str:
    return "".join(map(chr, tokens))


class BreakableScheduler(Scheduler):
    """A scheduler that raises on request: a failure of the engine."""

    broken = False
    refused: str | None = None

    def add(self, sequence: Sequence) -> None:
        if sequence.id == self.refused:
            raise RuntimeError("a broken queue")
        super().add(sequence)

    def schedule(self, now: float) -> Step:
        if self.broken:
            raise RuntimeError("a broken schedule")
        return super().schedule(now)


class Desk:
    """An engine and its delivered outputs."""

    def __init__(self, seats: int = 4, started: bool = True) -> None:
        self.runner = FakeRunner()
        self.outputs: list[Output] = []
        self.states: list[EngineState] = []
        self.changed = threading.Condition()
        self.scheduler = BreakableScheduler(BlockPool(64, 4), seats, max_step_tokens=16)
        self.engine = Engine(self.scheduler, self.runner, decode, [END], self.deliver)
        if started:
            self.engine.start()

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        with self.changed:
            self.outputs += outputs
            self.states.append(state)
            self.changed.notify_all()

    def submit(self, name: str, says: int, **params: Any) -> None:
        sampling = SamplingParams(**({"max_tokens": 50} | params))
        self.engine.submit(Request(name, (says, 65), sampling, 0.0))

    def result(self, name: str) -> tuple[str, Finish, int]:
        def ended() -> bool:
            return any(o.request_id == name and o.finish for o in self.outputs)

        with self.changed:
            assert self.changed.wait_for(ended, 60)
            mine = [o for o in self.outputs if o.request_id == name]
        assert mine[-1].finish is not None
        return "".join(o.text for o in mine), mine[-1].finish, mine[-1].generated


def test_end_token_stops_and_is_counted_but_not_emitted() -> None:
    desk = Desk()
    desk.submit("a", 3)
    assert desk.result("a") == ("abc", Finish.STOP, 4)
    desk.engine.stop()
    assert desk.runner.released == ["a"]


def test_token_limit_ends_a_request_that_ignores_the_end_token() -> None:
    desk = Desk()
    desk.submit("short", 40, max_tokens=2)
    desk.submit("on", 1, max_tokens=4, ignore_eos=True)
    assert desk.result("short") == ("ab", Finish.LENGTH, 2)
    text, finish, generated = desk.result("on")
    assert (text[0], finish, generated) == ("a", Finish.LENGTH, 4)
    desk.engine.stop()


def test_stop_string_across_two_tokens_ends_the_text() -> None:
    desk = Desk()
    desk.submit("a", 20, stop=("cd",))
    assert desk.result("a") == ("ab", Finish.STOP, 4)
    desk.engine.stop()


def test_last_output_has_timing_and_first_output_has_time_to_first_token() -> None:
    desk = Desk()
    desk.submit("a", 3)
    desk.result("a")
    desk.engine.stop()
    assert [o.time_to_first_token is not None for o in desk.outputs] == [True, False, False, False]
    timing = desk.outputs[-1].timing
    assert timing is not None
    assert timing.scheduled is not None
    assert timing.first_token is not None
    assert timing.arrived < timing.scheduled <= timing.first_token <= timing.finished


def test_outputs_have_the_cached_tokens_of_the_prompt_and_the_state_counts_them() -> None:
    desk = Desk()
    for name in ("a", "b"):
        desk.engine.submit(Request(name, (2, *[65] * 9), SamplingParams(max_tokens=3), 0.0))
        desk.result(name)
    desk.engine.submit(
        Request("c", (2, *[65] * 9), SamplingParams(max_tokens=3), 0.0, cache_salt="other")
    )
    desk.result("c")
    desk.engine.stop()
    cached = {o.request_id: o.cached_tokens for o in desk.outputs}
    assert cached == {"a": 0, "b": 8, "c": 0}
    assert desk.states[-1].prefix_cache_queries == 30
    assert desk.states[-1].prefix_cache_hits == 8


def test_failed_step_ends_its_requests_only() -> None:
    desk = Desk()
    desk.runner.broken.add("bad")
    desk.submit("bad", 3)
    assert desk.result("bad")[1] is Finish.ERROR
    assert desk.outputs[-1].error == "RuntimeError: broken step"
    desk.submit("good", 2)
    assert desk.result("good") == ("ab", Finish.STOP, 3)
    desk.engine.stop()


def test_request_that_makes_a_step_fail_ends_alone() -> None:
    desk = Desk(seats=8, started=False)
    desk.runner.broken.add("bad")
    names = ["a", "b", "bad", "c", "d"]
    for name in names:
        desk.submit(name, 5)
    desk.engine.start()
    results = {name: desk.result(name) for name in names}
    desk.engine.stop()
    assert results.pop("bad")[1] is Finish.ERROR
    assert set(results.values()) == {("abcde", Finish.STOP, 6)}
    assert not any("broken" in (o.error or "") for o in desk.outputs if o.request_id != "bad")


def test_request_whose_prompt_cannot_be_decoded_ends_alone() -> None:
    desk = Desk(started=False)
    params = SamplingParams(max_tokens=50)
    desk.engine.submit(Request("bad", (3, 10**9), params, 0.0))
    desk.submit("good", 3)
    desk.engine.start()
    assert desk.result("bad")[1] is Finish.ERROR
    assert desk.result("good") == ("abc", Finish.STOP, 4)
    desk.engine.stop()


def test_request_that_grows_beyond_the_cache_ends_with_an_error_and_the_next_one_runs() -> None:
    desk = Desk()
    desk.submit("large", 10**6, max_tokens=10**6)
    desk.submit("small", 3)
    text, finish, generated = desk.result("large")
    assert finish is Finish.ERROR
    assert len(text) == generated == 64 * 4 + 1 - 2
    errors = [output.error for output in desk.outputs if output.request_id == "large"]
    assert "the cache holds 256" in str(errors[-1])
    assert desk.result("small")[1] is Finish.STOP
    desk.engine.stop()


def test_request_can_be_aborted_in_any_state() -> None:
    desk = Desk()
    desk.submit("a", 10**6, max_tokens=10**6)
    desk.engine.abort("unknown")
    desk.engine.abort("a")
    assert desk.result("a")[1] is Finish.ABORT
    desk.engine.stop()
    assert desk.states[-1].running == 0
    assert desk.states[-1].cache_usage == 0


def test_error_in_one_request_s_text_ends_this_request_only() -> None:
    desk = Desk()
    desk.submit("good", 40, max_tokens=40)
    desk.runner.nonsense_for.add("bad")
    desk.submit("bad", 3)
    assert desk.result("bad")[1] is Finish.ERROR
    assert desk.result("good")[1:] == (Finish.LENGTH, 40)
    assert desk.engine.alive
    desk.engine.stop()


def test_non_finite_logits_end_one_request_only() -> None:
    desk = Desk()
    desk.submit("good", 40, max_tokens=40)
    desk.runner.not_finite.add("bad")
    desk.submit("bad", 3)
    assert desk.result("bad")[1] is Finish.ERROR
    assert desk.result("good")[1:] == (Finish.LENGTH, 40)
    desk.engine.stop()


def test_every_request_ends_when_the_engine_fails() -> None:
    """One request runs; the others are in the inbox, and one of them could get the seat."""
    desk = Desk(seats=1)
    desk.runner.gate.clear()
    desk.submit("running", 1000, max_tokens=1000)
    assert desk.runner.entered.wait(60)
    for name in ("waiting", "inbox"):
        desk.submit(name, 1000, max_tokens=1000)
    desk.scheduler.broken = True
    desk.runner.gate.set()
    for name in ("running", "waiting", "inbox"):
        assert desk.result(name)[1] is Finish.ERROR
    desk.engine.stop()
    assert not desk.engine.alive
    desk.submit("late", 3)
    assert desk.result("late")[1] is Finish.ERROR


@pytest.mark.parametrize("at", range(4))
def test_error_while_admitting_a_request_ends_the_requests_behind_it(at: int) -> None:
    desk = Desk(started=False)
    for name in "abcd":
        desk.submit(name, 3)
    desk.scheduler.refused = "abcd"[at]
    desk.engine.start()
    for name in "abcd":
        assert desk.result(name)[1] is Finish.ERROR
    desk.engine.stop()


def test_unfinished_requests_end_with_an_error_when_the_engine_stops() -> None:
    desk = Desk()
    desk.submit("a", 10**6, max_tokens=10**6)
    assert desk.engine.stop()
    assert desk.result("a")[1] is Finish.ERROR


def test_stop_waits_for_a_step_no_longer_than_its_timeout() -> None:
    desk = Desk()
    desk.runner.gate.clear()
    desk.submit("a", 3)
    assert desk.runner.entered.wait(60)
    assert not desk.engine.stop(0.01)
    desk.runner.gate.set()
    assert desk.engine.stop(60)
