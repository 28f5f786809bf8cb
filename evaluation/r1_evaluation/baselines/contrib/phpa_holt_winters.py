"""The Holt-Winters model of jthomperoo's predictive HorizontalPodAutoscaler, with a day as season.

`algorithms/holt_winters`, `internal/prediction/holtwinters` and `internal/controllers` at c91d0609
(v0.13.2): at every sync the HPA's replicas are kept, and from two seasons on statsmodels'
ExponentialSmoothing (additive trend and season, gains given by the user, its states started by its
heuristic and nothing fitted: `optimized=False`) says the one figure that comes next, rounded up. When
a season more than those to be stored is full, the oldest goes. Beside that script's arguments a test
runs this on the same series, to nine digits.

Its configuration is the user's. Here a season is a day of syncs (5,760) and two are stored: three
would grow to 23,039 entries of 46 bytes, more than the 1 MiB of the ConfigMap that holds them. Gains
are the .1 each of its script's own example input. Its sample manifest has .9 each for a season of six
looks; with a day these follow their own noise.

**As documented** the figures are handed over in order of time. **As written** they are not: pruning
sorts the newest first (its unit table says so as well), the next figure is put behind the oldest, and
in that order the script gets them. So it foresees from a day that runs backwards, and jumps to the
present at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from r1_evaluation.traces.scenario import DAY_SECONDS, STEP_SECONDS, Floats

SEASON = round(DAY_SECONDS / STEP_SECONDS)
STORED = 2
GAINS = (0.1, 0.1, 0.1)
"""Of level, trend and season."""
_LINE = 10

Gains = tuple[float, float, float]
States = tuple[float, float, Floats]
"""Level, trend (a step) and the season (season,)."""


def fewest(season: int) -> int:
    """Return the number of values the model requires."""
    return max(2 * season, _LINE + 2 * (season // 2))


def cycles_of(count: int, season: int) -> int:
    """Return the number of seasons over which the heuristic takes its means."""
    return max(min(5, count // season), math.ceil(fewest(season) / season))


def start_states(series: Floats, season: int) -> States:
    """Return the states that the heuristic starts from (Hyndman et al. 2008, section 2.6).

    The season is the mean, over up to five cycles, of what figures differ by from the centred mean
    of a season around them; level and trend are a line through the first ten such means.
    """
    cycles = cycles_of(len(series), season)
    part = series[: cycles * season]
    summed = np.concatenate([[0.0], np.cumsum(part)])
    centred = (summed[season:] - summed[:-season]) / season
    if season % 2 == 0:
        centred = (centred[1:] + centred[:-1]) / 2
    inside = slice(season // 2, season // 2 + len(centred))
    apart, there = np.zeros(cycles * season), np.zeros(cycles * season)
    apart[inside] = part[inside] - centred
    there[inside] = 1.0
    seasonal: Floats = apart.reshape(cycles, season).sum(0) / there.reshape(cycles, season).sum(0)
    return *_line(centred[:_LINE]), seasonal - seasonal.mean()


def _line(values: Floats) -> tuple[float, float]:
    """Return where the least-squares line through ten values is a step before them, and its rise."""
    mean, off = float(values.mean()), np.arange(_LINE) - (_LINE - 1) / 2
    trend = float(off @ values / (off @ off))
    return mean - trend * (_LINE + 1) / 2, trend


def smoothed(states: States, series: Sequence[float], at: int, gains: Gains) -> States:
    """Return the states after `series`, whose first figure is number `at`; the season is reused."""
    level, trend, seasonal = states
    alpha, beta, gamma = gains
    season = len(seasonal)
    for number, value in enumerate(series, start=at):
        phase, before = number % season, level
        part = float(seasonal[phase])
        level = alpha * (value - part) + (1 - alpha) * (before + trend)
        seasonal[phase] = gamma * (value - before - trend) + (1 - gamma) * part
        trend = beta * (level - before) + (1 - beta) * trend
    return level, trend, seasonal


def next_value(series: Sequence[float], season: int, gains: Gains = GAINS) -> float:
    """Return the value after `series` (at least `fewest(season)` values)."""
    states = start_states(np.array(series, dtype=np.float64), season)
    level, trend, seasonal = smoothed(states, series, 0, gains)
    return level + trend + float(seasonal[len(series) % season])


def upstream_order(history: Sequence[float]) -> list[float]:
    """Return a history (oldest first) in the order of the upstream code."""
    return [*history[-2::-1], history[-1]]


def pruned(history: list[float], season: int, stored: int = STORED) -> bool:
    """Drop the oldest seasons when one more than those to be stored is full; say whether it was."""
    surplus = len(history) // season - stored
    if surplus <= 0:
        return False
    del history[: surplus * season]
    return True


def time_order_model(season: int = SEASON, gains: Gains = GAINS) -> Callable[[int], int]:
    """Return the model by documentation: it receives each value and returns the next, 0 at first."""
    history: list[float] = []
    known: list[States] = []  # of the whole history, none where it has to begin anew

    def ahead(calculated: int) -> int:
        history.append(float(calculated))
        count = len(history)
        said = 0
        if count >= fewest(season):
            if not known or count <= cycles_of(count, season) * season:  # it starts elsewhere
                states = start_states(np.array(history), season)
                known[:] = [smoothed(states, history, 0, gains)]
            else:
                known[:] = [smoothed(known[0], history[-1:], count - 1, gains)]
            level, trend, seasonal = known[0]
            said = _up(level + trend + float(seasonal[count % season]))
        if pruned(history, season):
            known.clear()
        return said

    return ahead


def upstream_order_model(season: int = SEASON, gains: Gains = GAINS) -> Callable[[int], int]:
    """Return the model as its code hands it the figures: `next_value(as_handed(history))`.

    The order changes with every figure, so nothing can be carried on. But what is said is linear
    in the figures and in the states it starts from, and by their distance to the end their weights
    are always the same. In what is handed over backwards a centred mean is what it was.
    """
    longest, half = (STORED + 1) * season, season // 2
    own, starts, kept = _weights(longest, season, gains)
    history, centred, apart = np.empty(longest), np.empty(longest), np.empty(longest)
    around = np.full(2 * half + 1, 1 / season)
    if season % 2 == 0:
        around[[0, -1]] /= 2
    count = 0

    def ahead(calculated: int) -> int:
        nonlocal count
        history[count] = calculated
        count += 1
        newest = count - 2 - half  # the newest with half a season of what is backwards around it
        if newest >= half:
            centred[newest] = around @ history[newest - half : newest + half + 1]
            apart[newest] = history[newest] - centred[newest]
        said = 0
        if count >= fewest(season):
            said = _up(own[0] * calculated + own[1:count] @ history[: count - 1] + start())
        if count == longest:  # as `pruned`
            count -= season
            for kept_in in (history, centred, apart):
                kept_in[:count] = kept_in[season:].copy()
        return said

    def start() -> float:
        """What it starts from, by its weight at the end."""
        weights = kept[count - season : count]
        if season % 2 or count <= 2 * season or cycles_of(count, season) != 2:
            handed = np.append(history[: count - 1][::-1], history[count - 1])
            level, trend, seasonal = start_states(handed, season)
            return float(starts[count] @ (level, trend) + weights[::-1] @ seasonal)
        # Two even seasons hold one centred mean for each figure of a season: their middle one.
        end = count - 1 - half
        level, trend = _line(centred[end - _LINE : end][::-1])
        parts = apart[end - season : end]
        seasonal = parts @ np.roll(weights, half) - parts.mean() * weights.sum()
        return float(starts[count] @ (level, trend) + seasonal)

    return ahead


@cache
def _weights(longest: int, season: int, gains: Gains) -> tuple[Floats, Floats, Floats]:
    """Return what the value said depends on, by the distance to the end of what is handed over.

    (longest,) on the figure so far from the end; (longest + 1, 2) on level and trend so many
    figures before the end; (longest,) on the part of the season that is in use there first.
    """
    alpha, beta, gamma = gains
    level, trend = 1.0, 1.0
    own, kept = np.zeros(longest), np.zeros(longest)
    starts = np.ones((longest + 1, 2))
    for back in range(longest):
        part = float(kept[back - season]) if back >= season else float(back == season - 1)
        through = level + trend * beta
        own[back] = through * alpha + part * gamma
        level, trend = (
            through * (1 - alpha) - trend * beta - part * gamma,
            through * (1 - alpha) + trend * (1 - beta) - part * gamma,
        )
        kept[back] = part * (1 - gamma) - through * alpha
        starts[back + 1] = level, trend
    return own, starts, kept


def _up(value: float) -> int:
    return math.ceil(value - 1e-9)
