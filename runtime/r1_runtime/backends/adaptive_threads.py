"""Thread count that follows the machine: chosen by trials at start, and again while the engine decodes.

Threads of one step wait for each other. Beside a busy neighbour, a step on two threads can take longer than
on one, because the slower thread is not running. The count is therefore compared with the next smaller or
larger one: until it settles at start, when steps suddenly take longer, and from time to time. All trials
after the start use steps that have work anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from r1_runtime.backends.step_plan import Backend, StepPlan, StepResult

_TRIAL_STEPS = 4  # of each count, in turns
_TRIAL_SECONDS = 0.01  # of each count: short steps are repeated more often
_SECONDS_BETWEEN_TRIALS = 2.0
_LONGEST_PAUSE = 32.0  # between trials that change nothing
_SHORTEST_PAUSE = 0.5  # before a trial because of slower steps
_CLEAR_GAIN = 0.85  # ratio of times below which the count changes
_WINDOW = 16  # steps whose median is compared with that of the window before
_SLOWER = 1.3  # ratio of two windows above which a smaller count is tried


def thread_candidates(cpus: int) -> list[int]:
    """Thread counts to try: powers of two, and the maximum.

    With three or more CPUs, one stays free for HTTP and the tokenizer.
    """
    most = cpus - 1 if cpus > 2 else cpus
    return sorted({1 << power for power in range(most.bit_length())} | {most})


@dataclass
class ThreadChoice:
    """The count in use, and the trial of another one. Pure: times are passed in.

    Args:
        counts: counts to choose from, ascending.
        current: the count in use, one of `counts`; by default the smallest.

    Attributes:
        settled: whether a trial has changed nothing since the start. Until then trials follow each other.
        measured: seconds of a step by count, of the last trial of each.
    """

    counts: Sequence[int]
    current: int = 0
    settled: bool = False
    measured: dict[int, float] = field(default_factory=dict)
    _trial: int | None = None
    _times: dict[int, list[float]] = field(default_factory=dict)
    _next_trial: float = 0.0
    _last_trial: float = float("-inf")
    _pause: float = _SECONDS_BETWEEN_TRIALS
    _upward: bool = False
    _rows: int = 0
    _window: list[float] = field(default_factory=list)
    _level: float | None = None  # median of the window before

    def __post_init__(self) -> None:
        self.current = self.current or self.counts[0]
        self.settled = self.settled or len(self.counts) == 1

    def count_for(self, rows: int, now: float) -> int:
        """Threads for a step that decodes `rows` sequences."""
        if rows != self._rows:  # times of different steps do not compare
            if self._trial is not None:
                self._end_trial(now)
            self._rows, self._window, self._level = rows, [], None
        if self._trial is None and now >= self._next_trial:
            self._begin_trial()
        if self._trial is None:
            return self.current
        done = {count: len(times) for count, times in self._times.items()}
        return min((self.current, self._trial), key=lambda count: done[count])

    def note(self, count: int, seconds: float, now: float) -> None:
        """Add the duration of a step that `count_for` gave a count."""
        if self._trial is None:
            self._watch(seconds, now)
            return
        if count not in self._times:
            return
        self._times[count].append(seconds)
        if any(
            len(times) < _TRIAL_STEPS or sum(times[1:]) < _TRIAL_SECONDS
            for times in self._times.values()
        ):
            return
        # The first step with a count starts or wakes threads.
        old, new = (median(self._times[each][1:]) for each in (self.current, self._trial))
        self.measured |= {self.current: old, self._trial: new}
        changed = new < _CLEAR_GAIN * old
        if changed:
            self.current = self._trial
        self._pause = _SECONDS_BETWEEN_TRIALS if changed else min(2 * self._pause, _LONGEST_PAUSE)
        if not changed:
            self.settled = True
        self._end_trial(now)

    def describe(self) -> str:
        """The count and what was measured, for the log."""
        if len(self.counts) == 1:
            return f"Using {self.current} threads: no other count is possible"
        figures = ", ".join(
            f"{count}: {1000 * self.measured[count]:.1f} ms" for count in sorted(self.measured)
        )
        return f"Using {self.current} threads by measurement of a step: {figures}"

    def _watch(self, seconds: float, now: float) -> None:
        """Begin a trial of a smaller count soon when steps take longer than those before."""
        self._window.append(seconds)
        if len(self._window) < _WINDOW:
            return
        level, before = median(self._window), self._level
        self._window, self._level = [], level
        if before is None or level < _SLOWER * before or self.current == self.counts[0]:
            return
        self._upward = True  # the next direction is the other one
        self._next_trial = min(self._next_trial, max(now, self._last_trial + _SHORTEST_PAUSE))

    def _begin_trial(self) -> None:
        at = self.counts.index(self.current)
        neighbours = [each for each in (at - 1, at + 1) if 0 <= each < len(self.counts)]
        if not neighbours:
            self._next_trial = float("inf")
            return
        self._upward = not self._upward or not self.settled
        chosen = max(neighbours) if self._upward else min(neighbours)
        self._trial = self.counts[chosen]
        self._times = {self.current: [], self._trial: []}

    def _end_trial(self, now: float) -> None:
        self._trial = None
        self._times = {}
        self._window, self._level = [], None
        self._last_trial = now
        self._next_trial = now + self._pause if self.settled else now
        if self.current == self.counts[-1] and not self.settled:
            self.settled = True  # every smaller count was slower
            self._next_trial = now + self._pause


class AdaptiveThreads:
    """A backend whose thread count follows `ThreadChoice`.

    Args:
        backend: a backend of the CPU.
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
        self.set_threads(choice.current)

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
