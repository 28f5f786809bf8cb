"""What stands between the HTTP handlers and the engine: state, admission, and the way back.

The engine's thread hands over a whole step's outputs in one call; they cross into the event loop
by one `call_soon_threadsafe` and are sorted into the requests' queues there. So no lock is shared
between the two, and a hundred streams cost one wake-up per step.
"""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.sequence import Finish, SamplingParams
from r1_runtime.errors import RequestError
from r1_runtime.server.metrics import Metrics
from r1_runtime.server.requests import GenerationRequest

if TYPE_CHECKING:  # the engine imports torch, which loads while the server already answers
    from r1_runtime.engine.engine import Engine
    from r1_runtime.models.tokenizer import ChatTokenizer

_BUSY_RETRY_SECONDS = 1
_LOADING_RETRY_SECONDS = 2
_DRAINING_RETRY_SECONDS = 1


class Phase(enum.StrEnum):
    """The server's life, in order."""

    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for at most.

    Attributes:
        max_model_len: tokens of prompt and output together.
        max_in_flight: requests running or waiting.
        vocabulary: token numbers below it exist.
    """

    max_model_len: int
    max_in_flight: int
    vocabulary: int


@dataclass(slots=True, eq=False)
class Generation:
    """An admitted request on its way."""

    id: str
    prompt_tokens: int
    outputs: asyncio.Queue[Output]
    finished: bool = False


class Service:
    """One served model.

    Args:
        names: the model's names; the first is the one in metrics.
        metrics: where to count.
    """

    def __init__(self, names: tuple[str, ...], metrics: Metrics) -> None:
        self.names = names
        self.metrics = metrics
        self.phase = Phase.LOADING
        self.limits: Limits | None = None
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._live: dict[str, Generation] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, engine: Engine, tokenizer: ChatTokenizer, limits: Limits) -> None:
        """The model is loaded: admit requests from now on (unless a drain has begun)."""
        self._engine = engine
        self._tokenizer = tokenizer
        self.limits = limits
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def begin_drain(self) -> None:
        """Refuse new requests; those in flight go on."""
        self.phase = Phase.DRAINING

    async def drained(self) -> None:
        """Wait until no request is in flight."""
        await self._empty.wait()

    @property
    def alive(self) -> bool:
        """False when the engine's thread has died: the pod must be restarted."""
        return self._engine is None or self._engine.alive

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        """Take a step's outputs; called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._distribute, outputs, state)

    def _distribute(self, outputs: list[Output], state: EngineState) -> None:
        self.metrics.note_state(state)
        for output in outputs:
            self.metrics.note_output(output)
            generation = self._live.get(output.request_id)
            if generation is None:
                continue  # the client has gone
            generation.outputs.put_nowait(output)
            if output.finish is not None:
                generation.finished = True

    def admit(self, request: GenerationRequest, prefix: str) -> Generation:
        """Check a request against model, state and limits, and hand it to the engine.

        Raises:
            RequestError: 400, 404, 429 or 503.
        """
        if request.model not in self.names:
            raise RequestError(
                f"the model {request.model!r} is not served here; served: {', '.join(self.names)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        if self.phase is Phase.DRAINING:
            raise self._unavailable("this server is shutting down", _DRAINING_RETRY_SECONDS)
        if self._engine is None or self._tokenizer is None or self.limits is None:
            raise self._unavailable("the model is still loading", _LOADING_RETRY_SECONDS)
        if not self._engine.alive:
            raise self._unavailable("the engine has stopped", _LOADING_RETRY_SECONDS)
        if len(self._live) >= self.limits.max_in_flight:
            self.metrics.note_rejected("queue_full")
            raise RequestError(
                "too many requests are waiting; try again later",
                status=429,
                kind="rate_limit_error",
                code="queue_full",
                retry_after=_BUSY_RETRY_SECONDS,
            )
        prompt = self._prompt(request, self._tokenizer, self.limits)
        generation = Generation(prefix + uuid.uuid4().hex, len(prompt), asyncio.Queue())
        self._live[generation.id] = generation
        self._empty.clear()
        self.metrics.note_admitted(len(prompt))
        params = self._params(request, len(prompt), self.limits)
        self._engine.submit(
            Request(generation.id, tuple(prompt), params, time.monotonic(), request.urgency)
        )
        return generation

    async def outputs(self, generation: Generation) -> AsyncIterator[Output]:
        """The outputs as they come; what has piled up meanwhile comes as one."""
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
        """The handler has ended, one way or another; unfinished work is aborted."""
        self._live.pop(generation.id, None)
        if not self._live:
            self._empty.set()
        if not generation.finished and self._engine is not None:
            self._engine.abort(generation.id)

    def abort_all(self) -> None:
        """The drain took too long: end what is left, so that clients see an error."""
        for generation in list(self._live.values()):
            if not generation.finished and self._engine is not None:
                self._engine.abort(generation.id)

    def stop(self) -> None:
        """End the engine's thread."""
        if self._engine is not None:
            self._engine.stop()

    def _unavailable(self, message: str, retry_after: int) -> RequestError:
        self.metrics.note_rejected(self.phase.value.lower())
        return RequestError(
            message,
            status=503,
            kind="service_unavailable_error",
            code="service_unavailable",
            retry_after=retry_after,
        )

    def _prompt(
        self, request: GenerationRequest, tokenizer: ChatTokenizer, limits: Limits
    ) -> list[int]:
        if request.messages is not None:
            field, tokens = "messages", tokenizer.encode_chat(request.messages)
        elif request.text is not None:
            field, tokens = "prompt", tokenizer.encode(request.text)
        else:
            field, tokens = "prompt", list(request.tokens or ())
            if max(tokens, default=0) >= limits.vocabulary:
                raise RequestError(
                    f"prompt holds a token number of {limits.vocabulary} or more", param="prompt"
                )
        if not tokens:
            raise RequestError(f"{field} is empty", param=field)
        if len(tokens) >= limits.max_model_len:
            raise RequestError(
                f"{field} has {len(tokens)} tokens; at most {limits.max_model_len - 1} leave room "
                f"for an answer (--max-model-len {limits.max_model_len})",
                param=field,
                code="context_length_exceeded",
            )
        return tokens

    def _params(self, request: GenerationRequest, prompt: int, limits: Limits) -> SamplingParams:
        """The output ends at the context's end; a chat without a limit may use all of it."""
        room = limits.max_model_len - prompt
        unlimited = request.messages is not None and not request.limited
        wanted = room if unlimited else min(room, request.params.max_tokens)
        return replace(request.params, max_tokens=wanted)


def failure_of(output: Output) -> RequestError | None:
    """The error a client must see for an output that ended badly, if it did."""
    if output.finish is Finish.ERROR:
        return RequestError(
            f"the engine failed: {output.error}", status=500, kind="server_error", code="error"
        )
    if output.finish is Finish.ABORT:
        return RequestError(
            "the request was aborted", status=503, kind="server_error", code="aborted"
        )
    return None
