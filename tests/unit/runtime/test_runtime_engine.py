"""The engine's loop with a runner made of paper: ends, aborts, and faults that stay where they are."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Rows
from typing import Any

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, SamplingParams, Sequence

END = 0


class PaperRunner:
    """Says the alphabet; its words are the prompt's first token's choice."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.forgotten: list[str] = []
        self.says_nonsense = False

    def execute(self, step: Step) -> list[tuple[Sequence, int]]:
        if any(chunk.sequence.id in self.broken for chunk in step.chunks):
            raise RuntimeError("out of paper")
        sampling = [chunk.sequence for chunk in step.chunks if chunk.samples]
        return [(sequence, self.next_token(sequence)) for sequence in sampling]

    def next_token(self, sequence: Sequence) -> int:
        if self.says_nonsense:
            return 10**9  # chr() refuses it: the detokenizer raises
        said = sequence.generated
        return END if said >= sequence.tokens[0] else 97 + said % 26

    def forget(self, sequence: Sequence) -> None:
        self.forgotten.append(sequence.id)


def decode(tokens: Rows[int]) -> str:
    return "".join(map(chr, tokens))


class Desk:
    """An engine and what it has delivered."""

    def __init__(self) -> None:
        self.runner = PaperRunner()
        self.outputs: list[Output] = []
        self.states: list[EngineState] = []
        self.changed = threading.Condition()
        scheduler = Scheduler(BlockPool(64, 4), max_sequences=4, max_step_tokens=16)
        self.engine = Engine(scheduler, self.runner, decode, [END], self.deliver)
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


def test_the_end_token_stops_and_is_counted_but_not_said() -> None:
    desk = Desk()
    desk.submit("a", 3)
    assert desk.result("a") == ("abc", Finish.STOP, 4)
    desk.engine.stop()
    assert desk.runner.forgotten == ["a"]


def test_the_limit_and_the_ignored_end() -> None:
    desk = Desk()
    desk.submit("short", 40, max_tokens=2)
    desk.submit("on", 1, max_tokens=4, ignore_eos=True)
    assert desk.result("short") == ("ab", Finish.LENGTH, 2)
    text, finish, generated = desk.result("on")
    assert (text[0], finish, generated) == ("a", Finish.LENGTH, 4)
    desk.engine.stop()


def test_a_stop_string_over_two_tokens() -> None:
    desk = Desk()
    desk.submit("a", 20, stop=("cd",))
    assert desk.result("a") == ("ab", Finish.STOP, 4)
    desk.engine.stop()


def test_timing_comes_with_the_last_output_and_the_first_token_s_delay_with_the_first() -> None:
    desk = Desk()
    desk.submit("a", 3)
    desk.result("a")
    desk.engine.stop()
    assert [o.first_after is not None for o in desk.outputs] == [True, False, False, False]
    timing = desk.outputs[-1].timing
    assert timing is not None
    assert timing.scheduled is not None
    assert timing.first_token is not None
    assert timing.arrived < timing.scheduled <= timing.first_token <= timing.finished


def test_a_step_that_fails_ends_its_requests_only() -> None:
    desk = Desk()
    desk.runner.broken.add("bad")
    desk.submit("bad", 3)
    assert desk.result("bad")[1] is Finish.ERROR
    assert desk.outputs[-1].error == "RuntimeError: out of paper"
    desk.submit("good", 2)
    assert desk.result("good") == ("ab", Finish.STOP, 3)
    desk.engine.stop()


def test_a_request_is_given_up_wherever_it_stands() -> None:
    desk = Desk()
    desk.submit("a", 10**6, max_tokens=10**6)
    desk.engine.abort("unknown")
    desk.engine.abort("a")
    assert desk.result("a")[1] is Finish.ABORT
    desk.engine.stop()
    assert desk.states[-1].running == 0
    assert desk.states[-1].cache_usage == 0


def test_a_fault_of_the_engine_itself_is_told_to_everyone_and_seen_in_its_health() -> None:
    desk = Desk()
    desk.runner.says_nonsense = True
    desk.submit("a", 3)
    assert desk.result("a")[1] is Finish.ERROR
    desk.engine.stop()
    assert not desk.engine.alive
