"""CPU time of decoding and of prompts, two configurations in turns.

Turns cancel what other processes do to the machine: both configurations meet the same neighbours.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1_runtime.quality.configuration import LoadedConfiguration
from r1_runtime.quality.forced_steps import CachedSequence

_SEED = 11


@dataclass(frozen=True, slots=True)
class TimingSize:
    """What is timed.

    Attributes:
        context: tokens in the cache before a decoded token.
        decoded: tokens of a turn of decoding.
        prompt: tokens of a turn of prefill.
        rounds: turns of each configuration.
    """

    context: int = 1024
    decoded: int = 16
    prompt: int = 256
    rounds: int = 5


QUICK_TIMING = TimingSize(512, 8, 128, 3)


@dataclass(frozen=True, slots=True)
class TimeRatio:
    """CPU time of a configuration as a share of the baseline's: below 1 is faster.

    Attributes:
        median: of the rounds.
        low: smallest of the rounds.
        high: largest.
        seconds: median CPU seconds per token of the configuration.
    """

    median: float
    low: float
    high: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All values."""
        return {
            "median": self.median,
            "range": [self.low, self.high],
            "cpuSecondsPerToken": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Timing:
    """Ratios of one configuration to its baseline.

    Attributes:
        decode: one stream, one token per step.
        prefill: one prompt.
    """

    decode: TimeRatio
    prefill: TimeRatio

    def to_json(self) -> dict[str, Any]:
        """Both."""
        return {"decode": self.decode.to_json(), "prefill": self.prefill.to_json()}


def compare_times(
    loaded: LoadedConfiguration, baseline: LoadedConfiguration, size: TimingSize
) -> Timing:
    """Time both configurations in turns, on random tokens."""
    pair = [_TimedConfiguration(each, size) for each in (baseline, loaded)]
    results: dict[str, list[list[float]]] = {"decode": [[], []], "prefill": [[], []]}
    for _ in range(size.rounds):
        for number, each in enumerate(pair):
            results["decode"][number].append(each.decode())
        for number, each in enumerate(pair):
            results["prefill"][number].append(each.prefill())
    for each in pair:
        each.close()
    return Timing(
        time_ratio(results["decode"][1], results["decode"][0]),
        time_ratio(results["prefill"][1], results["prefill"][0]),
    )


def time_ratio(seconds: list[float], baseline: list[float]) -> TimeRatio:
    """Ratio of paired measurements, in seconds per token."""
    ratios = [one / other for one, other in zip(seconds, baseline, strict=True)]
    return TimeRatio(
        statistics.median(ratios), min(ratios), max(ratios), statistics.median(seconds)
    )


class _TimedConfiguration:
    """A configuration with a filled context."""

    def __init__(self, loaded: LoadedConfiguration, size: TimingSize) -> None:
        self._decoder, self._size = loaded.decoder, size
        generator = np.random.default_rng(_SEED)
        most = loaded.size.longest
        self._context = min(size.context, most - size.decoded)
        count = self._context + size.decoded + size.prompt
        self._tokens: list[int] = generator.integers(0, loaded.vocabulary, count).tolist()
        self._sequence = self._decoder.open()
        self._decoder.prefill(self._sequence, self._tokens[: self._context])

    def decode(self) -> float:
        """CPU seconds per token, after the same context each time."""
        branch = self._decoder.open(self._sequence, self._context)
        self._decoder.prefill(branch, self._tokens[branch.length : self._context])
        tokens = self._tokens[self._context : self._context + self._size.decoded]
        return self._timed(tokens, branch, one_by_one=True)

    def prefill(self) -> float:
        """CPU seconds per token of a prompt alone."""
        tokens = self._tokens[-min(self._size.prompt, self._context) :]
        return self._timed(tokens, self._decoder.open(), one_by_one=False)

    def _timed(self, tokens: list[int], sequence: CachedSequence, *, one_by_one: bool) -> float:
        feed = self._decoder.decode if one_by_one else self._decoder.prefill
        started = time.process_time()
        feed(sequence, tokens)
        seconds = time.process_time() - started
        self._decoder.close(sequence)
        return seconds / len(tokens)

    def close(self) -> None:
        self._decoder.close(self._sequence)
