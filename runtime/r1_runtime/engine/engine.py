"""The loop: commands in, one scheduler step after another, text out.

The engine runs in a thread of its own and shares nothing with the event loop. Commands (add, abort)
go in through a locked list; results come out once per step, all of them in one call of `deliver`,
which is the only thing the engine knows of its surroundings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field, replace
from typing import Protocol

from r1_runtime.engine.detokenize import Detokenizer
from r1_runtime.engine.messages import Deliver, EngineState, Output, Request, Timing
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence

_log = logging.getLogger("r1_runtime")


class StepRunner(Protocol):
    """What computes a step; `engine.runner.Runner` outside of tests."""

    def execute(self, step: Step) -> list[tuple[Sequence, int | None]]:
        """Compute the step; (sequence, next token) for the chunks that sample.

        The token is None where the model computed logits that are not finite.
        """

    def forget(self, sequence: Sequence) -> None:
        """Drop what is kept for a sequence that has ended."""


@dataclass(slots=True)
class _Job:
    sequence: Sequence
    detokenizer: Detokenizer
    first_token: float | None = None
    generated: int = 0


@dataclass(slots=True)
class _Inbox:
    ready: threading.Condition = field(default_factory=threading.Condition)
    requests: list[Request] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    stop: bool = False
    closed: bool = False  # the thread has ended and takes no more commands


class Engine:
    """Owns scheduler and runner while its thread runs.

    Args:
        scheduler: the sequences.
        runner: the tensors.
        decode: tokens to text, special tokens left out.
        eos: tokens that end an output.
        deliver: called from the engine's thread after each step with something to say.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: StepRunner,
        decode: Callable[[Rows[int]], str],
        eos: Rows[int],
        deliver: Deliver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._decode = decode
        self._eos = frozenset(eos)
        self._deliver = deliver
        self._clock = clock
        self._inbox = _Inbox()
        self._jobs: dict[str, _Job] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float | None = None) -> bool:
        """End the thread after the step it is in; unfinished requests end with an error.

        Returns:
            Whether it has ended, which False denies after `seconds`.
        """
        with self._inbox.ready:
            self._inbox.stop = True
            self._inbox.ready.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def submit(self, request: Request) -> None:
        """Queue a request; from any thread. It ends with an error when the thread has ended."""
        with self._inbox.ready:
            if not self._inbox.closed:
                self._inbox.requests.append(request)
                self._inbox.ready.notify()
                return
        self._deliver([_stopped(request.id)], EngineState())

    def abort(self, request_id: str) -> None:
        """Give a request up, wherever it stands; unknown ones are fine. From any thread."""
        with self._inbox.ready:
            self._inbox.aborts.append(request_id)
            self._inbox.ready.notify()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self.step()
        except Exception:  # noqa: BLE001  (a fault of the engine itself, not of one request)
            _log.exception("the engine has stopped")
        self._end_all()

    def _end_all(self) -> None:
        """End every request, wherever it is: running, waiting or not yet taken from the inbox."""
        with self._inbox.ready:
            self._inbox.closed = True
            requests, self._inbox.requests = self._inbox.requests, []
        outputs = [_stopped(name, job.generated) for name, job in self._jobs.items()]
        outputs += [_stopped(request.id) for request in requests if request.id not in self._jobs]
        if outputs:
            self._deliver(outputs, EngineState())

    def _take_commands(self) -> bool:
        with self._inbox.ready:
            while not (self._inbox.requests or self._inbox.aborts or self._inbox.stop):
                if not self._scheduler.idle:
                    break
                self._inbox.ready.wait()
            requests = list(self._inbox.requests)
            aborts, self._inbox.aborts = self._inbox.aborts, []
            stop = self._inbox.stop
        for request in requests:
            self._admit(request)
        with self._inbox.ready:  # only now: a fault while admitting must end those behind it too
            del self._inbox.requests[: len(requests)]
        ended = [self._end(self._jobs[name], Finish.ABORT) for name in aborts if name in self._jobs]
        if ended:
            self._deliver(ended, self._state(Step(())))
        return not stop

    def _admit(self, request: Request) -> None:
        sequence = Sequence(
            id=request.id,
            tokens=list(request.prompt),
            prompt_length=len(request.prompt),
            params=request.params,
            arrived=request.arrived,
            urgency=request.urgency,
        )
        detokenizer = Detokenizer(self._decode, request.prompt, request.params.stop)
        self._jobs[request.id] = _Job(sequence, detokenizer)
        self._scheduler.add(sequence)

    def step(self) -> None:
        """One step of the scheduler and the model; delivers what it produced."""
        step = self._scheduler.schedule(self._clock())
        if not step.chunks:
            return
        try:
            sampled = self._runner.execute(step)
        except Exception as error:  # noqa: BLE001  (one bad step must not end the server)
            self._fail(step, error)
            return
        self._scheduler.advance(step)
        outputs = [self._output(self._jobs[sequence.id], token) for sequence, token in sampled]
        self._deliver(outputs, self._state(step))

    def _fail(self, step: Step, error: Exception) -> None:
        """Give up the requests of a step that raised; the others go on."""
        message = f"{type(error).__name__}: {error}"
        outputs = [
            self._end(self._jobs[chunk.sequence.id], Finish.ERROR, error=message)
            for chunk in step.chunks
        ]
        self._deliver(outputs, self._state(step))

    def _output(self, job: _Job, token: int | None) -> Output:
        """The output of one request; what goes wrong with it ends this request only."""
        if token is None:
            return self._end(
                job, Finish.ERROR, error="the model computed logits that are not finite"
            )
        try:
            return self._append(job, token)
        except Exception as error:
            if job.sequence.id not in self._jobs:
                raise  # it has left already: the engine's own records are wrong
            _log.exception("request %s failed", job.sequence.id)
            return self._end(job, Finish.ERROR, error=f"{type(error).__name__}: {error}")

    def _append(self, job: _Job, token: int) -> Output:
        sequence = job.sequence
        job.generated += 1
        first_after = None
        if job.first_token is None:
            job.first_token = self._clock()
            first_after = job.first_token - sequence.arrived
        output = self._text_of(job, token)
        return output if first_after is None else replace(output, first_after=first_after)

    def _text_of(self, job: _Job, token: int) -> Output:
        """The output that one more token makes, which may be the last."""
        sequence, params = job.sequence, job.sequence.params
        if token in self._eos and not params.ignore_eos:
            return self._end(job, Finish.STOP, job.detokenizer.flush(), new_tokens=1)
        sequence.tokens.append(token)
        text = job.detokenizer.push((token,))
        if job.detokenizer.stopped:
            return self._end(job, Finish.STOP, text, new_tokens=1)
        if job.generated >= params.max_tokens:
            text += job.detokenizer.flush()
            reason = Finish.STOP if job.detokenizer.stopped else Finish.LENGTH
            return self._end(job, reason, text, new_tokens=1)
        return Output(sequence.id, text, 1, job.generated)

    def _end(
        self,
        job: _Job,
        reason: Finish,
        text: str = "",
        *,
        new_tokens: int = 0,
        error: str | None = None,
    ) -> Output:
        sequence = job.sequence
        self._scheduler.finish(sequence, reason)
        self._runner.forget(sequence)
        del self._jobs[sequence.id]
        timing = Timing(sequence.arrived, sequence.first_scheduled, job.first_token, self._clock())
        return Output(
            sequence.id,
            text,
            new_tokens,
            job.generated,
            finish=reason,
            timing=timing,
            error=error,
        )

    def _state(self, step: Step) -> EngineState:
        scheduler = self._scheduler
        return EngineState(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            cache_usage=scheduler.pool.usage,
            preemptions=scheduler.preemptions,
            step_tokens=step.tokens,
        )


def _stopped(request_id: str, generated: int = 0) -> Output:
    """The end of a request whose engine runs no more."""
    message = "the engine has stopped"
    return Output(request_id, "", 0, generated, finish=Finish.ERROR, error=message)
