"""Replay of a load on a service that a KPA scales every 2 s, with pods that start in 20 s.

The decision function is a parameter: our implementation, Knative's code, or its recorded output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TICK, START = 2, 20
STABLE, PANIC = 60, 6


@dataclass(frozen=True, slots=True)
class Tick:
    """Input of a KPA decision: second, ready pods, and the load per second since the last tick."""

    at: int
    ready: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Output of a KPA decision: the means of both windows, and the desired pods."""

    stable: float
    panic: float
    desired: int


def load(seconds: int, seed: int) -> list[float]:
    """A wave with noise, two bursts of several times the load, and a period without load."""
    drawn = np.random.default_rng(seed)
    at = np.arange(seconds)
    wave = 6 + 4 * np.sin(at / 90) + drawn.normal(0, 0.8, seconds)
    for begin, length, height in ((0.22, 25, 30.0), (0.55, 8, 50.0)):
        first = round(begin * seconds)
        wave[first : first + length] += height
    wave[round(0.75 * seconds) : round(0.85 * seconds)] = 0
    return [round(max(0.0, value), 2) for value in wave.tolist()]


def play(
    values: list[float], decide: Callable[[Tick], Verdict], first: int
) -> list[tuple[Tick, Verdict]]:
    """Replay a load; the count starts at `first`, and new pods serve after 20 s."""
    counts = [first] * (START // TICK + 1)
    played = []
    for at in range(TICK, len(values) + 1, TICK):
        tick = Tick(at, min(counts[-START // TICK - 1 :]), tuple(values[at - TICK : at]))
        verdict = decide(tick)
        counts.append(verdict.desired)
        played.append((tick, verdict))
    return played


def means(values: list[float], at: int) -> tuple[float, float]:
    """Means of both windows that end with second `at`; shorter windows at the beginning."""
    stable, panic = values[max(0, at - STABLE) : at], values[max(0, at - PANIC) : at]
    return math.fsum(stable) / len(stable), math.fsum(panic) / len(panic)
