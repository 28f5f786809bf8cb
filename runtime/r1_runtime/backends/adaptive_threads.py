"""Thread count that follows the machine: measured again while the engine decodes.

Threads of one step wait for each other. Beside a busy neighbour, a step on two threads can take longer than
on one, because the slower thread is not running. The count measured at start is therefore compared with the
next smaller or larger one from time to time, on steps that have work anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from r1_runtime.backends.step_plan import Backend, StepPlan, StepResult

_TRIAL_STEPS = 4  # of each count, in turns
_SECONDS_BETWEEN_TRIALS = 2.0
_LONGEST_PAUSE = 32.0  # between trials that change nothing
_CLEAR_GAIN = 0.85  # ratio of times below which the count changes


@dataclass
class ThreadChoice:
    """The count in use, and the trial of another one. Pure: times are passed in.

    Args:
        counts: counts to choose from, ascending.
        current: the count in use, one of `counts`.
    """

    counts: Sequence[int]
    current: int
    _trial: int | None = None
    _times: dict[int, list[float]] = field(default_factory=dict)
    _next_trial: float = 0.0
    _pause: float = _SECONDS_BETWEEN_TRIALS
    _upward: bool = False
    _rows: int = 0

    def count_for(self, rows: int, now: float) -> int:
        """Threads for a step that decodes `rows` sequences."""
        if self._trial is not None and rows != self._rows:
            self._end_trial(now)  # times of different steps do not compare
        if self._trial is None and now >= self._next_trial:
            self._begin_trial(rows)
        if self._trial is None:
            return self.current
        done = {count: len(times) for count, times in self._times.items()}
        return min((self.current, self._trial), key=lambda count: done[count])

    def note(self, count: int, seconds: float, now: float) -> None:
        """Add the duration of a step that `count_for` gave a count."""
        if self._trial is None or count not in self._times:
            return
        self._times[count].append(seconds)
        if min(map(len, self._times.values())) < _TRIAL_STEPS:
            return
        # The first step with a count starts or wakes threads.
        old, new = (median(self._times[each][1:]) for each in (self.current, self._trial))
        changed = new < _CLEAR_GAIN * old
        if changed:
            self.current = self._trial
        self._pause = _SECONDS_BETWEEN_TRIALS if changed else min(2 * self._pause, _LONGEST_PAUSE)
        self._end_trial(now)

    def _begin_trial(self, rows: int) -> None:
        at = self.counts.index(self.current)
        neighbours = [each for each in (at - 1, at + 1) if 0 <= each < len(self.counts)]
        if not neighbours:
            self._next_trial = float("inf")
            return
        self._upward = not self._upward
        chosen = max(neighbours) if self._upward else min(neighbours)
        self._trial, self._rows = self.counts[chosen], rows
        self._times = {self.current: [], self._trial: []}

    def _end_trial(self, now: float) -> None:
        self._trial = None
        self._times = {}
        self._next_trial = now + self._pause


class AdaptiveThreads:
    """A backend whose thread count follows `ThreadChoice`.

    Args:
        backend: the native CPU backend.
        choice: the counts and the one in use.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        backend: Backend,
        choice: ThreadChoice,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend = backend
        self._choice = choice
        self._clock = clock
        self._set = choice.current

    def step(self, plan: StepPlan) -> StepResult:
        """Compute a step. Only steps without prompts take part in trials: they are alike."""
        rows = len(plan.tokens)
        decodes = rows == len(plan.context_lengths)
        started = self._clock()
        count = self._choice.count_for(rows, started) if decodes else self._choice.current
        if count != self._set:
            self.set_threads(count)
        result = self._backend.step(plan)
        if decodes:
            now = self._clock()
            self._choice.note(count, now - started, now)
        return result

    def set_threads(self, count: int) -> None:
        """Use `count` threads for the next step."""
        self._backend.set_threads(count)
        self._set = count

    def close(self) -> None:
        """Free weights and cache."""
        self._backend.close()

    def release_cache(self) -> None:
        """Free the cache."""
        self._backend.release_cache()

    def allocate_cache(self) -> None:
        """Allocate the cache again."""
        self._backend.allocate_cache()
