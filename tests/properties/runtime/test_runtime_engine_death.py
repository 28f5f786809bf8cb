"""Every request ends with exactly one last output, wherever the engine fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Rows
from typing import ParamSpec, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_model import FakeModel
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler

P = ParamSpec("P")
T = TypeVar("T")
BLOCK = 4
POINTS = (
    "schedule",
    "advance",
    "add",
    "finish",
    "execute",
    "release",
    "decode",
    "deliver",
    "clock",
)


class Fault(Exception):
    """The injected failure."""


class Faults:
    """Raises at the call number `at` of one point, once or from then on."""

    def __init__(self, point: str, at: int, persistent: bool) -> None:
        self._point, self._left, self._persistent = point, at, persistent

    def hit(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0 or (self._persistent and self._left < 0):
            raise Fault(point)

    def around(self, point: str, call: Callable[P, T], after: bool) -> Callable[P, T]:
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            if not after:
                self.hit(point)
            result = call(*args, **kwargs)
            if after:
                self.hit(point)
            return result

        return wrapped


requests = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 6), st.booleans()), min_size=1, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(
    wanted=requests,
    late=st.integers(0, 3),
    point=st.sampled_from(POINTS),
    at=st.integers(1, 25),
    after=st.booleans(),
    persistent=st.booleans(),
)
def test_every_request_ends_once_wherever_the_engine_fails(
    wanted: list[tuple[int, int, bool]],
    late: int,
    point: str,
    at: int,
    after: bool,
    persistent: bool,
) -> None:
    # A delivery that always fails reaches nobody.
    faults = Faults(point, at, persistent and point != "deliver")
    received: list[Output] = []
    pool = BlockPool(12, BLOCK)
    scheduler = Scheduler(pool, 3, 8)
    model = FakeModel(12, BLOCK, 5)
    clock = iter(range(10**6))

    def deliver(outputs: list[Output], state: EngineState) -> None:
        faults.hit("deliver")
        received.extend(outputs)

    def decode(tokens: Rows[int]) -> str:
        return "x" * len(tokens)

    for name in ("schedule", "advance", "add", "finish"):
        setattr(scheduler, name, faults.around(name, getattr(scheduler, name), after))
    for name in ("execute", "release"):
        setattr(model, name, faults.around(name, getattr(model, name), after))
    engine = Engine(
        scheduler,
        model,
        faults.around("decode", decode, after),
        [0],
        deliver,
        faults.around("clock", lambda: float(next(clock)), after),
    )
    for index, (prompt, output, aborted) in enumerate(wanted):
        params = SamplingParams(max_tokens=output)
        engine.submit(Request(str(index), (1,) * prompt, params, 0.0))
        if aborted:
            engine.abort(str(index))
    engine.start()
    names = [str(index) for index in range(len(wanted))]
    for index in range(late):
        names.append(f"late-{index}")
        request = Request(names[-1], (1, 2), SamplingParams(max_tokens=2), 0.0)
        try:
            engine.submit(request)
        except Fault:  # the thread has ended and the caller receives the failed delivery
            names.pop()
    while engine.alive and {o.request_id for o in received if o.finish} != set(names):
        time.sleep(0.0002)
    engine.stop()
    ends = sorted(output.request_id for output in received if output.finish is not None)
    assert ends == sorted(names)
