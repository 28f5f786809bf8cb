"""Service state, request admission, and delivery of the engine's outputs to the HTTP handlers.

The engine's thread delivers all outputs of a step in one call. One `call_soon_threadsafe` moves them
into the event loop, which sorts them into the requests' queues. The two threads share no lock, and a
hundred streams cost one wake-up per step.
"""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.sequence import Finish
from r1_runtime.errors import RequestError
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.metrics import RuntimeMetrics
from r1_runtime.server.prompts import Limits, PromptThreads, prompt_tokens
from r1_runtime.server.requests import GenerationRequest

if TYPE_CHECKING:  # the engine imports torch, which loads while the server already responds
    from r1_runtime.engine.engine import Engine
    from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer

_BUSY_RETRY_SECONDS = 1
_LOADING_RETRY_SECONDS = 2
_DRAINING_RETRY_SECONDS = 1


class Phase(enum.StrEnum):
    """Phases of the server, in order."""

    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"


@dataclass(slots=True, eq=False)
class Generation:
    """An admitted request and its pending outputs."""

    id: str
    outputs: asyncio.Queue[Output] = field(default_factory=asyncio.Queue)
    prompt_tokens: int = 0
    finished: bool = False


class Service:
    """One served model.

    Args:
        names: the model's names; the first one labels the metrics.
        metrics: the series to update.
    """

    def __init__(self, names: tuple[str, ...], metrics: RuntimeMetrics) -> None:
        self.names = names
        self.metrics = metrics
        self.phase = Phase.LOADING
        self.limits: Limits | None = None
        self.defaults = GenerationDefaults()
        self.threads = PromptThreads()
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._live: dict[str, Generation] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def open(
        self,
        engine: Engine,
        tokenizer: ChatTokenizer,
        limits: Limits,
        defaults: GenerationDefaults,
    ) -> None:
        """Admit requests from now on, unless a drain has started: the model is loaded."""
        self._engine = engine
        self._tokenizer = tokenizer
        self.limits = limits
        self.defaults = defaults
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def begin_drain(self) -> None:
        """Reject new requests; requests in flight continue."""
        self.phase = Phase.DRAINING

    async def drained(self) -> None:
        """Wait until no request is in flight."""
        await self._empty.wait()

    @property
    def alive(self) -> bool:
        """False when the engine's thread has ended: the pod must be restarted."""
        return self._engine is None or self._engine.alive

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        """Accept the outputs of a step; called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._distribute, outputs, state)

    def _distribute(self, outputs: list[Output], state: EngineState) -> None:
        self.metrics.note_state(state)
        for output in outputs:
            self.metrics.note_output(output)
            generation = self._live.get(output.request_id)
            if generation is None or generation.finished:
                continue  # the client disconnected, or has received its error
            generation.outputs.put_nowait(output)
            if output.finish is not None:
                generation.finished = True

    async def admit(self, request: GenerationRequest, prefix: str, size: int) -> Generation:
        """Check a request against model, state and limits, and submit it to the engine.

        Args:
            request: the parsed request.
            prefix: prefix of the generation's id.
            size: size of the request body in bytes.

        Raises:
            RequestError: 400, 404, 429 or 503.
        """
        if request.model not in self.names:
            raise model_not_found(request.model, self.names)
        if self.phase is Phase.DRAINING:
            raise self._unavailable(
                "the server is shutting down; send the request to another replica",
                _DRAINING_RETRY_SECONDS,
            )
        if self._engine is None or self._tokenizer is None or self.limits is None:
            raise self._unavailable(
                "the model is still loading; retry later", _LOADING_RETRY_SECONDS
            )
        if not self._engine.alive:
            raise self._unavailable(
                "the engine has stopped; the pod must be restarted", _LOADING_RETRY_SECONDS
            )
        if len(self._live) >= self.limits.max_in_flight:
            self.metrics.note_rejected("queue_full")
            raise RequestError(
                "too many requests are waiting; retry later",
                status=429,
                kind="rate_limit_error",
                code="queue_full",
                retry_after=_BUSY_RETRY_SECONDS,
            )
        generation = Generation(prefix + uuid.uuid4().hex)
        self._live[generation.id] = generation
        self._empty.clear()
        arrived = time.monotonic()
        try:
            work = partial(prompt_tokens, request, self._tokenizer, self.limits)
            prompt = await self.threads.run(size, work)
        except BaseException:
            self.release(generation)
            raise
        generation.prompt_tokens = len(prompt)
        if not generation.finished:  # aborted while the prompt was tokenised
            self.metrics.note_admitted(len(prompt))
            params = self._params(request, len(prompt), self.limits)
            self._engine.submit(
                Request(generation.id, tuple(prompt), params, arrived, request.priority)
            )
        return generation

    async def outputs(self, generation: Generation) -> AsyncIterator[Output]:
        """Yield the outputs as they arrive; queued outputs are merged into one."""
        while True:
            output = await generation.outputs.get()
            while output.finish is None and not generation.outputs.empty():
                later = generation.outputs.get_nowait()
                output = replace(
                    later,
                    text=output.text + later.text,
                    new_tokens=output.new_tokens + later.new_tokens,
                )
            yield output
            if output.finish is not None:
                return

    def release(self, generation: Generation) -> None:
        """Forget a request whose handler has ended, and abort its unfinished work."""
        self._live.pop(generation.id, None)
        if not self._live:
            self._empty.set()
        if not generation.finished and self._engine is not None:
            self._engine.abort(generation.id)

    def abort_all(self) -> None:
        """End the remaining requests with an error, after a drain that exceeded its time.

        The error does not wait for the engine, which may be in the middle of a long step.
        """
        for generation in list(self._live.values()):
            if not generation.finished:
                generation.outputs.put_nowait(Output(generation.id, "", 0, 0, finish=Finish.ABORT))
                generation.finished = True
                if self._engine is not None:
                    self._engine.abort(generation.id)

    async def stop(self, seconds: float) -> bool:
        """End the engine's thread; False when its current step takes longer than `seconds`."""
        if self._engine is None:
            return True
        return await asyncio.to_thread(self._engine.stop, seconds)

    def _unavailable(self, message: str, retry_after: int) -> RequestError:
        self.metrics.note_rejected(self.phase.value.lower())
        return RequestError(
            message,
            status=503,
            kind="service_unavailable_error",
            code="service_unavailable",
            retry_after=retry_after,
        )

    def _params(self, request: GenerationRequest, prompt: int, limits: Limits) -> SamplingParams:
        """Limit the output to the rest of the context; a request without a limit may use all of it."""
        remaining = limits.max_model_len - prompt
        most = min(remaining, request.params.max_tokens) if request.limited else remaining
        return replace(request.params, max_tokens=most)


def model_not_found(name: str, served: tuple[str, ...]) -> RequestError:
    """The 404 error for a model name that is not served."""
    return RequestError(
        f"the model {name[:200]!r} is not served here; served: {', '.join(served)}",
        status=404,
        param="model",
        code="model_not_found",
    )


def failure_of(output: Output) -> RequestError | None:
    """The error for the client of an output that failed or was aborted, if any."""
    if output.finish is Finish.ERROR:
        return RequestError(
            f"the engine failed: {output.error}", status=500, kind="server_error", code="error"
        )
    if output.finish is Finish.ABORT:
        return RequestError(
            "the request was aborted", status=503, kind="server_error", code="aborted"
        )
    return None
