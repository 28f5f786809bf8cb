"""Thread count, chosen by a measurement at start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

_ROUNDS = 3
_LONGEST_SECONDS = 1.0  # for all rounds of one candidate
_MAX_TIME_RATIO = 0.8  # more threads are used below this ratio of times


def best_time(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds, after a warm-up round.

    The minimum is used because other load on the machine only adds time.
    """
    work()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < _ROUNDS and (not times or time.perf_counter() - started < _LONGEST_SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)


def thread_candidates(cpus: int) -> list[int]:
    """Thread counts to try: powers of two, and the maximum.

    With three or more CPUs, one stays free for HTTP and the tokenizer.
    """
    most = cpus - 1 if cpus > 2 else cpus
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def choose_threads(seconds: Mapping[int, float]) -> int:
    """The smallest count, unless a larger one takes less than 0.8 of its time."""
    chosen, *others = sorted(seconds)
    for count in others:
        if seconds[count] < _MAX_TIME_RATIO * seconds[chosen]:
            chosen = count
    return chosen


def measure_threads(
    set_threads: Callable[[int], None], work: Callable[[], object], cpus: int
) -> tuple[int, str]:
    """Time `work` by thread count; return the choice, which is then set, and a log line."""
    candidates = thread_candidates(cpus)
    if len(candidates) == 1:
        set_threads(candidates[0])
        return candidates[0], f"Using {candidates[0]} thread: only one CPU is available"
    seconds: dict[int, float] = {}
    for count in candidates:
        set_threads(count)
        seconds[count] = best_time(work)
    chosen = choose_threads(seconds)
    set_threads(chosen)
    figures = ", ".join(f"{count}: {1000 * value:.1f} ms" for count, value in seconds.items())
    return chosen, f"Using {chosen} threads by measurement on {cpus} CPUs: {figures}"
