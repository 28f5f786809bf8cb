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
from r1_runtime.engine.sequence import Finish
from r1_runtime.errors import RequestError, RuntimeFault
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api.generation_request import GenerationRequest
from r1_runtime.server.limits import Limits
from r1_runtime.server.metrics import RuntimeMetrics
from r1_runtime.server.prompts import PreparedOutput, PromptThreads, prepare
from r1_runtime.server.served_model import ServedModel

if TYPE_CHECKING:  # loaded while the server already responds
    from r1_runtime.engine.engine import Engine
    from r1_runtime.server.sleep import Sleeper

_BUSY_RETRY_SECONDS = 1
_LOADING_RETRY_SECONDS = 2
_DRAINING_RETRY_SECONDS = 1
_SLEEPING_RETRY_SECONDS = 5


class Phase(enum.StrEnum):
    """Phases of the server, in order; a server that wakes up is ready again."""

    LOADING = "Loading"
    READY = "Ready"
    SLEEPING = "Sleeping"
    DRAINING = "Draining"


@dataclass(slots=True, eq=False)
class Choice:
    """One output of a request: a sequence of the engine."""

    id: str
    index: int
    generation: Generation
    finished: bool = False


@dataclass(slots=True, eq=False)
class Generation:
    """An admitted request and its pending outputs.

    Attributes:
        id: the response's identifier.
        choices: one for each output.
        prepared: prompt, constraint and parser of each output, once the request is admitted.
        pending: outputs of the engine that no handler has read.
    """

    id: str
    choices: list[Choice] = field(default_factory=list)
    prepared: list[PreparedOutput] = field(default_factory=list)
    pending: asyncio.Queue[tuple[int, Output]] = field(default_factory=asyncio.Queue)

    @property
    def finished(self) -> bool:
        return all(choice.finished for choice in self.choices)


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
        self.model: ServedModel | None = None
        self.threads = PromptThreads()
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._sleeper: Sleeper | None = None
        self._changing = asyncio.Lock()  # one change between asleep and awake at a time
        self._live: dict[str, Choice] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, engine: Engine, model: ServedModel, sleeper: Sleeper | None = None) -> None:
        """Admit requests from now on, unless a drain has started: the model is loaded."""
        self._engine = engine
        self._sleeper = sleeper
        self.model = model
        self.metrics.note_limits(model.limits)
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    @property
    def defaults(self) -> GenerationDefaults:
        """Sampling parameters of requests that leave them out."""
        return GenerationDefaults() if self.model is None else self.model.defaults

    def loaded(self) -> ServedModel:
        """The model.

        Raises:
            RequestError: 503: it is still loading.
        """
        if self.model is None:
            raise self._unavailable(
                "the model is still loading; retry later", _LOADING_RETRY_SECONDS
            )
        return self.model

    def begin_drain(self) -> None:
        """Reject new requests; requests in flight continue."""
        self.phase = Phase.DRAINING

    async def drained(self) -> None:
        """Wait until no request is in flight."""
        await self._empty.wait()

    async def sleep(self, level: int, *, wait: bool) -> None:
        """Refuse requests and free memory; see `Sleeper`.

        Args:
            level: 1 or 2.
            wait: let the requests in flight finish; otherwise they end with an error.

        Raises:
            RequestError: 503, the model is not loaded or the server shuts down.
        """
        async with self._changing:
            sleeper = self._awake_or_asleep()
            self.phase = Phase.SLEEPING
            if not wait:
                self.abort_all()
            await self.drained()
            await asyncio.to_thread(sleeper.sleep, level)
            self.metrics.note_sleep(sleeper.level)

    async def wake_up(self) -> None:
        """Allocate and load what a sleep has freed, and admit requests.

        Raises:
            RequestError: 503, the model is not loaded, the server shuts down, or memory is missing.
        """
        async with self._changing:
            sleeper = self._awake_or_asleep()
            try:
                await asyncio.to_thread(sleeper.wake_up)
            except (MemoryError, RuntimeFault) as error:
                raise self._unavailable(
                    f"the server cannot wake up: {error or 'memory is missing'}",
                    _LOADING_RETRY_SECONDS,
                ) from error
            self.metrics.note_sleep(sleeper.level)
            if self.phase is Phase.SLEEPING:
                self.phase = Phase.READY

    def _awake_or_asleep(self) -> Sleeper:
        """What frees memory, unless the server loads, drains or was started without it."""
        self.loaded()
        if self.phase is Phase.DRAINING:
            raise self._draining()
        if self._sleeper is None:
            raise RequestError(
                "start the server with --enable-sleep-mode", code="unsupported_endpoint"
            )
        return self._sleeper

    @property
    def alive(self) -> bool:
        """False when the engine's thread has ended: the pod must be restarted."""
        return self._engine is None or self._engine.alive

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return len({id(choice.generation) for choice in self._live.values()})

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        """Accept the outputs of a step; called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._distribute, outputs, state)

    def _distribute(self, outputs: list[Output], state: EngineState) -> None:
        self.metrics.note_state(state)
        for output in outputs:
            self.metrics.note_output(output)
            choice = self._live.get(output.request_id)
            if choice is None or choice.finished:
                continue  # the client disconnected, or has received its error
            choice.finished = output.finish is not None
            choice.generation.pending.put_nowait((choice.index, output))

    async def admit(self, request: GenerationRequest, prefix: str, size: int) -> Generation:
        """Check a request against model, state and limits, and submit it to the engine.

        Args:
            request: the parsed request.
            prefix: prefix of the generation's id.
            size: size of the request body in bytes.

        Raises:
            RequestError: 400, 404, 429 or 503.
        """
        self.check_model(request.model)
        if self.phase is Phase.DRAINING:
            raise self._draining()
        if self.phase is Phase.SLEEPING:
            raise self._unavailable(
                "the server is asleep; send the request to another replica, or POST /wake_up",
                _SLEEPING_RETRY_SECONDS,
            )
        model = self.loaded()
        if self._engine is None or not self._engine.alive:
            raise self._unavailable(
                "the engine has stopped; the pod must be restarted", _LOADING_RETRY_SECONDS
            )
        generation = self._reserve(request, model.limits, prefix)
        arrived = time.monotonic()
        try:
            prepared = await self.threads.run(size, partial(prepare, request, model))
        except BaseException:
            self.release(generation)
            raise
        generation.prepared = prepared
        for choice, output in zip(generation.choices, prepared, strict=True):
            if not choice.finished:  # aborted while the prompt was tokenised
                self._submit(choice, output, request, model, arrived)
        return generation

    def check_model(self, name: str) -> None:
        """Raise RequestError (404) for a model that is not served."""
        if name not in self.names:
            raise model_not_found(name, self.names)

    def _reserve(self, request: GenerationRequest, limits: Limits, prefix: str) -> Generation:
        """A generation whose outputs count as in flight.

        Raises:
            RequestError: 400: more outputs than ever fit; 429: too many now.
        """
        count = request.n * len(request.prompts)
        if count > limits.max_in_flight:
            field = "n" if request.n > 1 else "prompt"
            raise RequestError(
                f"{field}: the request has {count} outputs; this server runs and queues at most "
                f"{limits.max_in_flight}",
                param=field,
                code="too_many_outputs",
            )
        if len(self._live) + count > limits.max_in_flight:
            self.metrics.note_rejected("queue_full")
            raise RequestError(
                "too many requests are waiting; retry later",
                status=429,
                kind="rate_limit_error",
                code="queue_full",
                retry_after=_BUSY_RETRY_SECONDS,
            )
        generation = Generation(prefix + uuid.uuid4().hex)
        for index in range(count):
            name = generation.id if count == 1 else f"{generation.id}-{index}"
            choice = Choice(name, index, generation)
            generation.choices.append(choice)
            self._live[name] = choice
        self._empty.clear()
        self.metrics.note_request(request.n)
        return generation

    def _submit(
        self,
        choice: Choice,
        output: PreparedOutput,
        request: GenerationRequest,
        model: ServedModel,
        arrived: float,
    ) -> None:
        assert self._engine is not None  # noqa: S101
        remaining = model.limits.max_model_len - len(output.prompt)
        # A request without a limit may use the rest of the context.
        most = min(remaining, request.params.max_tokens) if request.limited else remaining
        seed = request.params.seed
        params = replace(
            request.params,
            max_tokens=most,
            # Outputs of one prompt differ, also with a seed.
            seed=None if seed is None else seed + choice.index % request.n,
        )
        self.metrics.note_admitted(len(output.prompt), most)
        self._engine.submit(
            Request(
                choice.id,
                output.prompt,
                params,
                arrived,
                request.priority,
                output.constraint,
                model.decoder(request),
                request.cache_salt,
                request.pooling,
            )
        )

    async def outputs(self, generation: Generation) -> AsyncIterator[dict[int, Output]]:
        """Yield new outputs by index as they arrive; queued outputs of a choice are joined."""
        running = len(generation.choices)
        while running:
            index, output = await generation.pending.get()
            batch = {index: output}
            while not generation.pending.empty():
                index, output = generation.pending.get_nowait()
                batch[index] = joined(batch[index], output) if index in batch else output
            running -= sum(output.finish is not None for output in batch.values())
            yield batch

    def release(self, generation: Generation) -> None:
        """Forget a request whose handler has ended, and abort its unfinished work."""
        for choice in generation.choices:
            self._live.pop(choice.id, None)
            if not choice.finished and self._engine is not None:
                self._engine.abort(choice.id)
        if not self._live:
            self._empty.set()

    def abort_all(self) -> None:
        """End the remaining requests with an error, after a drain that exceeded its time.

        The error does not wait for the engine, which may be in the middle of a long step.
        """
        for choice in list(self._live.values()):
            if not choice.finished:
                choice.finished = True
                aborted = Output(choice.id, "", 0, 0, finish=Finish.ABORT)
                choice.generation.pending.put_nowait((choice.index, aborted))
                if self._engine is not None:
                    self._engine.abort(choice.id)

    async def stop(self, seconds: float) -> bool:
        """End the engine's thread; False when its current step takes longer than `seconds`."""
        if self._engine is None:
            return True
        return await asyncio.to_thread(self._engine.stop, seconds)

    def _draining(self) -> RequestError:
        return self._unavailable(
            "the server is shutting down; send the request to another replica",
            _DRAINING_RETRY_SECONDS,
        )

    def _unavailable(self, message: str, retry_after: int) -> RequestError:
        self.metrics.note_rejected(self.phase.value.lower())
        return RequestError(
            message,
            status=503,
            kind="service_unavailable_error",
            code="service_unavailable",
            retry_after=retry_after,
        )


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


def joined(output: Output, later: Output) -> Output:
    """Two outputs of one sequence as one."""
    return replace(
        later,
        text=output.text + later.text,
        new_tokens=output.new_tokens + later.new_tokens,
        token_ids=output.token_ids + later.token_ids,
        logprobs=output.logprobs + later.logprobs,
        prompt_logprobs=output.prompt_logprobs + later.prompt_logprobs,
    )
