"""Requests through a real backend, scheduler and engine, step by step in the test's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.step_plan import Backend
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.speculation import Drafter

BLOCKS, BLOCK_SIZE = 400, 16


@dataclass
class Run:
    """What the requests returned, by id."""

    state: EngineState = field(default_factory=EngineState)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        self.state = state
        for output in outputs:
            self.tokens.setdefault(output.request_id, []).extend(output.token_ids)
            if output.error is not None:
                self.errors[output.request_id] = output.error
            if output.embedding is not None:
                self.embeddings[output.request_id] = output.embedding


def run_requests(
    backend: Backend,
    requests: Sequence[Request],
    *,
    drafter: Callable[[Runner], Drafter] | None = None,
    max_drafts: int = 4,
    seats: int = 4,
    step_tokens: int = 64,
    blocks: int = BLOCKS,
    model_drafts: bool = False,
) -> Run:
    """Run the requests to their end."""
    run = Run()
    runner = Runner(backend, BLOCK_SIZE, model_drafts=model_drafts)
    scheduler = Scheduler(
        BlockPool(blocks, BLOCK_SIZE),
        seats,
        step_tokens,
        step_seconds=None,
        drafter=None if drafter is None else drafter(runner),
        max_drafts=max_drafts,
    )
    engine = Engine(scheduler, runner, lambda tokens: "x" * len(tokens), [], run.deliver)
    for request in requests:
        engine._admit(request)
    while not scheduler.idle:
        engine.step()
        scheduler.check_integrity()
    return run
