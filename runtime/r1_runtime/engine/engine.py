"""Engine loop: takes commands, runs scheduler steps, delivers text.

The engine runs in its own thread and shares no state with the event loop. Commands (submit, abort)
arrive through a locked list. One call of `deliver` per step returns all results of the step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Rows
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from r1_runtime.engine.detokenize import Detokenizer
from r1_runtime.engine.messages import (
    AttentionReads,
    Deliver,
    EngineState,
    Output,
    Request,
    SampledRow,
    Timing,
    TokenLogprobs,
)
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Pooling, Sequence
from r1_runtime.engine.speculation import accepted_length

_STOPPED = "the engine has stopped"
_log = logging.getLogger("r1_runtime")


class StepRunner(Protocol):
    """Computes a step; `engine.runner.Runner` outside of tests."""

    def execute(self, step: Step) -> list[SampledRow]:
        """Compute the step; return its output rows.

        A chunk that ends at the sequence's last token has a row with the next token, and then one for
        each draft. A prompt whose log-probabilities are requested has a row for each of its tokens
        after the first, before it. A step that raised is repeated in parts, so a repetition must have
        the same result.
        """

    def release(self, sequence: Sequence) -> None:
        """Free the state of a sequence that has ended."""


@dataclass(slots=True)
class _Job:
    sequence: Sequence
    detokenizer: Detokenizer
    first_token: float | None = None
    last_token: float | None = None
    generated: int = 0
    prompt_logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)  # by position


@dataclass(slots=True)
class _Inbox:
    ready: threading.Condition = field(default_factory=threading.Condition)
    requests: list[Request] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    work: list[tuple[Callable[[], None], Future[None]]] = field(default_factory=list)
    stop: bool = False
    closed: bool = False  # the thread has ended and accepts no commands

    @property
    def pending(self) -> bool:
        return bool(self.requests or self.aborts or self.work or self.stop)


class Engine:
    """Owns scheduler and runner while its thread runs.

    Args:
        scheduler: schedules the sequences.
        runner: computes the steps.
        decode: converts tokens to text, without special tokens.
        eos: tokens that end an output.
        deliver: called from the engine's thread after each step that has outputs.
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
        reads: AttentionReads | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._decode = decode
        self._eos = frozenset(eos)
        self._deliver = deliver
        self._clock = clock
        self._reads = reads or AttentionReads()
        self._inbox = _Inbox()
        self._jobs: dict[str, _Job] = {}
        self._undelivered: dict[str, Output] = {}  # last outputs of requests that have ended
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float | None = None) -> bool:
        """End the thread after its current step; unfinished requests end with an error.

        Returns:
            Whether the thread has ended within `seconds`.
        """
        with self._inbox.ready:
            self._inbox.stop = True
            self._inbox.ready.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def submit(self, request: Request) -> None:
        """Queue a request, from any thread. Once the engine has stopped, the request fails."""
        with self._inbox.ready:
            if not self._inbox.closed:
                self._inbox.requests.append(request)
                self._inbox.ready.notify()
                return
        self._deliver([_stopped(request.id)], EngineState())

    def abort(self, request_id: str) -> None:
        """Abort a request in any state, from any thread; unknown ids are ignored."""
        with self._inbox.ready:
            self._inbox.aborts.append(request_id)
            self._inbox.ready.notify()

    def run_between_steps(self, work: Callable[[], None]) -> Future[None]:
        """Call `work` in the engine's thread, where no step runs; its error is the future's.

        Once the engine has stopped, the future fails with RuntimeError.
        """
        done: Future[None] = Future()
        with self._inbox.ready:
            if not self._inbox.closed:
                self._inbox.work.append((work, done))
                self._inbox.ready.notify()
                return done
        done.set_exception(RuntimeError(_STOPPED))
        return done

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self.step()
        except Exception:  # noqa: BLE001  (a failure of the engine, not of one request)
            _log.exception("The engine has stopped; the pod must be restarted")
        finally:
            self._end_all()

    def _end_all(self) -> None:
        """End every request: running, waiting, still in the inbox, or ended but not yet delivered."""
        with self._inbox.ready:
            self._inbox.closed = True
            requests, self._inbox.requests = self._inbox.requests, []
            works, self._inbox.work = self._inbox.work, []
        for _, done in works:
            done.set_exception(RuntimeError(_STOPPED))
        outputs = dict(self._undelivered)
        for name, job in self._jobs.items():
            outputs.setdefault(name, _stopped(name, job.generated))
        for request in requests:
            outputs.setdefault(request.id, _stopped(request.id))
        if not outputs:
            return
        try:
            self._deliver(list(outputs.values()), EngineState())
        except Exception:  # noqa: BLE001  (one bad output must not keep the others)
            _log.exception("Delivering the last outputs failed; delivering them one by one")
            for output in outputs.values():
                with suppress(Exception):
                    self._deliver([output], EngineState())

    def _send(self, outputs: list[Output], step: Step) -> None:
        """Deliver outputs. Until then, `_end_all` would deliver the last ones among them."""
        self._deliver(outputs, self._state(step))
        self._undelivered.clear()

    def _take_commands(self) -> bool:
        with self._inbox.ready:
            while not self._inbox.pending and self._scheduler.idle:
                self._inbox.ready.wait()
            requests = list(self._inbox.requests)
            aborts, self._inbox.aborts = self._inbox.aborts, []
            works = list(self._inbox.work)
            stop = self._inbox.stop
        refused = [output for request in requests if (output := self._admit(request)) is not None]
        with self._inbox.ready:  # after the loop: an error in it must end all requests of the inbox
            del self._inbox.requests[: len(requests)]
        ended = [self._end(self._jobs[name], Finish.ABORT) for name in aborts if name in self._jobs]
        if refused or ended:
            self._send([*refused, *ended], Step(()))
        for work, done in works:
            with self._inbox.ready:
                self._inbox.work.remove((work, done))
            _call(work, done)
        return not stop

    def _admit(self, request: Request) -> Output | None:
        """Queue a request. Returns its last output when it cannot be computed."""
        sequence = Sequence(
            id=request.id,
            tokens=list(request.prompt),
            prompt_length=len(request.prompt),
            params=request.params,
            arrived=request.arrived,
            priority=request.priority,
            constraint=request.constraint,
            salt=request.cache_salt or "",
            # Every prompt token needs its row.
            skip_reading_prefix_cache=request.params.prompt_logprobs is not None
            or request.pooling is Pooling.MEAN,
            pooling=request.pooling,
        )
        try:
            decode = request.decode or self._decode
            detokenizer = Detokenizer(decode, request.prompt, request.params.stop)
        except Exception as error:  # noqa: BLE001  (a failure of this request only)
            _log.exception("Request %s failed", request.id)
            output = _failed(request.id, error)
            self._undelivered[request.id] = output
            return output
        self._jobs[request.id] = _Job(sequence, detokenizer)
        self._scheduler.add(sequence)
        return None

    def step(self) -> None:
        """Run one step of the scheduler and the model; deliver the outputs."""
        started = self._clock()
        step = self._scheduler.schedule(started)
        if not step.chunks:
            self._end_larger_than_the_cache()
            return
        results, failed = self._compute(step)
        computed = Step(tuple(chunk for chunk in step.chunks if chunk.sequence.id not in failed))
        accepted = [
            accepted_length(
                chunk.drafts,
                [row.token for row in results.get(chunk.sequence.id, ()) if row.scored is None],
            )
            for chunk in computed.chunks
        ]
        self._scheduler.advance(computed, accepted)
        outputs = [
            self._end(self._jobs[name], Finish.ERROR, error=_text(error))
            for name, error in failed.items()
        ]
        for chunk, count in zip(computed.chunks, accepted, strict=True):
            outputs += self._outputs(chunk.sequence, results.get(chunk.sequence.id, ()), count + 1)
        self._send(outputs, step)
        if not failed:
            self._scheduler.note_duration(step, self._clock() - started)

    def _end_larger_than_the_cache(self) -> None:
        """End a sequence that can never run: it is alone and nothing was scheduled."""
        waiting = self._scheduler.waiting
        if waiting and not self._scheduler.fits(len(waiting[0].tokens)):
            pool, sequence = self._scheduler.pool, waiting[0]
            message = (
                f"the request has {len(sequence.tokens)} tokens, and the cache holds "
                f"{pool.count * pool.block_size}"
            )
            output = self._end(self._jobs[sequence.id], Finish.ERROR, error=message)
            self._send([output], Step(()))

    def _compute(self, step: Step) -> tuple[dict[str, list[SampledRow]], dict[str, Exception]]:
        """Compute a step; the output rows by sequence, and the errors of the sequences that failed.

        A step that raises is computed again in halves, until the failure is that of one sequence.
        """
        try:
            rows = self._runner.execute(step)
        except Exception as error:  # noqa: BLE001  (a failed step must not end the server)
            names = [chunk.sequence.id for chunk in step.chunks]
            _log.exception("A step of %d requests failed: %s", len(names), ", ".join(names[:8]))
            if len(names) == 1:
                return {}, {names[0]: error}
            half = len(names) // 2
            results, failed = self._compute(Step(step.chunks[:half]))
            others, more = self._compute(Step(step.chunks[half:]))
            return results | others, failed | more
        by_sequence: dict[str, list[SampledRow]] = {}
        for row in rows:
            by_sequence.setdefault(row.sequence.id, []).append(row)
        return by_sequence, {}

    def _outputs(self, sequence: Sequence, rows: Rows[SampledRow], most: int) -> list[Output]:
        """Outputs of a sequence's rows, up to its end: scored ones, and `most` sampled tokens."""
        outputs: list[Output] = []
        for row in rows:
            if sequence.finish is not None or not most:
                break
            most -= row.scored is None
            output = self._output(self._jobs[sequence.id], row)
            if output is not None:
                outputs.append(output)
        return outputs

    def _output(self, job: _Job, row: SampledRow) -> Output | None:
        """The output of one row, if any; an error ends this request only."""
        token = row.token
        if row.embedding is not None:
            return self._embedded(job, row.embedding)
        if token is None:
            return self._end(job, Finish.ERROR, error=_no_token(job.sequence))
        if row.scored is not None:
            if row.logprobs is not None:
                job.prompt_logprobs[row.scored] = row.logprobs
            return None
        try:
            return self._append(job, token, row.logprobs)
        except Exception as error:
            if job.sequence.id not in self._jobs:
                raise  # the request has ended already: the engine's state is inconsistent
            _log.exception("Request %s failed", job.sequence.id)
            return self._end(job, Finish.ERROR, error=_text(error))

    def _embedded(self, job: _Job, embedding: NDArray[np.float32]) -> Output:
        """The only output of a request with pooling."""
        if not np.isfinite(embedding).all():
            error = "the model computed hidden states that are not finite"
            return self._end(job, Finish.ERROR, error=error)
        output = replace(self._end(job, Finish.STOP), embedding=embedding)
        self._undelivered[output.request_id] = output
        return output

    def _append(self, job: _Job, token: int, logprobs: TokenLogprobs | None) -> Output:
        sequence = job.sequence
        job.generated += 1
        now = self._clock()
        first = job.first_token is None
        job.first_token = now if job.first_token is None else job.first_token
        gap = None if job.last_token is None else now - job.last_token
        job.last_token = now
        output = self._text_of(job, token)
        if first:
            scored = sorted(job.prompt_logprobs.items())
            output = replace(
                output,
                time_to_first_token=job.first_token - sequence.arrived,
                prompt_logprobs=tuple(entry for _, entry in scored),
            )
        return replace(
            output,
            token_ids=(token,),
            logprobs=() if logprobs is None else (logprobs,),
            cached_tokens=sequence.cached_tokens,
            token_gap=gap,
        )

    def _text_of(self, job: _Job, token: int) -> Output:
        """The output of one more token, which may be the last."""
        sequence, params = job.sequence, job.sequence.params
        ends = token in self._eos and not params.ignore_eos
        if ends or token in params.stop_token_ids:
            return self._end(job, Finish.STOP, job.detokenizer.flush(), new_tokens=1)
        if sequence.generated < job.generated:  # else an accepted draft
            sequence.tokens.append(token)
        if sequence.constraint is not None:
            sequence.constraint.accept(token)
        text = job.detokenizer.push((token,), stops=job.generated > params.min_tokens)
        if job.detokenizer.stopped:
            return self._end(job, Finish.STOP, text, new_tokens=1)
        if sequence.constraint is not None and sequence.constraint.finished:
            return self._end(job, Finish.STOP, text + job.detokenizer.flush(), new_tokens=1)
        if job.generated >= params.max_tokens:
            text += job.detokenizer.flush()
            reason = Finish.STOP if job.detokenizer.stopped else Finish.LENGTH
            return self._end(job, reason, text, new_tokens=1)
        return Output(sequence.id, text, 1, job.generated, cached_tokens=sequence.cached_tokens)

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
        self._runner.release(sequence)
        timing = Timing(sequence.arrived, sequence.first_scheduled, job.first_token, self._clock())
        output = Output(
            sequence.id,
            text,
            new_tokens,
            job.generated,
            finish=reason,
            timing=timing,
            error=error,
            cached_tokens=sequence.cached_tokens,
        )
        self._undelivered[sequence.id] = output
        del self._jobs[sequence.id]
        return output

    def _state(self, step: Step) -> EngineState:
        scheduler = self._scheduler
        return EngineState(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            cache_usage=scheduler.pool.usage,
            preemptions=scheduler.preemptions,
            step_tokens=step.tokens,
            prefix_cache_queries=scheduler.prefix_queries,
            prefix_cache_hits=scheduler.prefix_hits,
            drafts=scheduler.drafts,
            draft_tokens=scheduler.draft_tokens,
            accepted_tokens=scheduler.accepted_tokens,
            attention_read_tokens=self._reads.read,
            attention_context_tokens=self._reads.context,
        )


def _no_token(sequence: Sequence) -> str:
    """Why no token could be sampled."""
    constraint = sequence.constraint
    mask = None if constraint is None else constraint.mask()
    if constraint is not None and mask is not None:
        if not mask.any():
            return f"{constraint.param} allows no token after {sequence.generated} tokens"
        if sequence.generated < sequence.params.min_tokens:
            return (
                f"{constraint.param} allows only the end of the output after {sequence.generated}"
                f" tokens, and min_tokens is {sequence.params.min_tokens}"
            )
    return "the model computed logits that are not finite"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failed(request_id: str, error: Exception) -> Output:
    """The only output of a request that cannot be computed."""
    return Output(request_id, "", 0, 0, finish=Finish.ERROR, error=_text(error))


def _stopped(request_id: str, generated: int = 0) -> Output:
    """The last output of a request after the engine has stopped."""
    return Output(request_id, "", 0, generated, finish=Finish.ERROR, error=_STOPPED)


def _call(work: Callable[[], None], done: Future[None]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  (the caller of `run_between_steps` gets it)
        done.set_exception(error)
    else:
        done.set_result(None)
