"""Crane's DSP prediction (EffectiveHPA): the daily or weekly period of a signal, extrapolated.

`pkg/prediction/dsp/{signal,estimators,prediction,preprocessing,config}.go` and
`pkg/prediction/accuracy` at 2b0ddae8. Every 12 h the last 15 days by the minute are read. The period
is what stands out of the spectrum (above the second highest of a hundred shuffles) and is the
highest peak of the autocorrelation; only a day or a week counts. Of eight smoothed spectra (how many
components, how wide a margin) the one that was best on the last period is continued; too low
counts several times as much as too high. The highest value of the hour that comes is one more
metric of an HPA, so that it can only raise.

A spectrum's items below a fixed amplitude are dropped where they are quicker than an hour, so the
unit of the metric matters; here it is requests/s. The shuffles are drawn from a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import DAY_SECONDS, MINUTE_STEPS, STEP_SECONDS, Floats, Scenario
from r1_evaluation.traces.windows import coming_max

MINUTE = 60.0
HISTORY_SECONDS = 15 * DAY_SECONDS + 3600
UPDATE_SECONDS = 12 * 3600
WINDOW_SECONDS = 3600
_SHUFFLES, _KEPT_SHUFFLE = 100, 98
_PEAK_SECONDS = 4 * 3600
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class Estimator:
    """A smoothed spectrum: minimum of items, lowest amplitude, and a margin."""

    least_items: int
    low_amplitude: float
    margin: float
    most_items: int = 100
    high_frequency: float = 1 / 3600

    def extrapolated(self, samples: Floats, seconds: float, period: int) -> Floats:
        """Return the values after `samples`, over as many whole periods as observed; None: no period."""
        spectrum = np.fft.fft(samples)
        amplitude = np.abs(spectrum) / len(samples)
        sorted_down = np.sort(amplitude[1 : len(samples) // 2])[::-1]
        min_replicas = max(
            sorted_down[min(self.most_items, len(sorted_down)) - 1], self.low_amplitude
        )
        if len(sorted_down) >= self.least_items:
            min_replicas = min(min_replicas, sorted_down[self.least_items - 1])
        frequency = np.arange(len(samples)) / (seconds * len(samples))
        spectrum[(amplitude < min_replicas) & (frequency > self.high_frequency)] = 0
        smooth = np.fft.ifft(spectrum).real[-period:]
        kept: Floats = np.where(smooth <= 0, _LEAST, smooth) * (1 + self.margin)
        return kept


ESTIMATORS = tuple(
    Estimator(items, amplitude, margin)
    for items, amplitude in ((3, 1.0), (50, 0.05))
    for margin in (0.01, 0.10, 0.15, 0.20)
)


def autocorrelation(samples: Floats) -> Floats:
    """Return the circular autocorrelation by lags, 1 at none."""
    normal = (samples - samples.mean()) / samples.std()
    power = np.abs(np.fft.fft(normal)) ** 2
    lags: Floats = np.fft.ifft(power).real / len(samples)
    return lags


def is_peak(values: Floats, at: int, reach: int) -> bool:
    """Whether values rise towards `at` and fall after it, by least-squares lines of `reach`."""
    if not 1 <= at <= len(values) - 1:
        return False
    before, after = values[max(0, at - reach) : at + 1], values[at : at + reach + 1]
    if len(before) < 2 or len(after) < 2:
        return False
    return _slope(before) > 0 and _slope(after) < 0


def find_period(samples: Floats, seconds: float, seed: int = 0) -> float | None:
    """Return the period of a signal in seconds, None without a significant one.

    The reach of a peak is four hours, or half of the period.
    """
    if samples.std() == 0:
        return None
    count, half = len(samples), len(samples) // 2
    drawn = np.random.default_rng(seed)
    highest = sorted(
        float(np.abs(np.fft.rfft(drawn.permutation(samples)))[1:half].max())
        for _ in range(_SHUFFLES)
    )
    power = np.abs(np.fft.rfft(samples))
    hints: list[int] = []
    for k in range(2, half):
        if power[k] > highest[_KEPT_SHUFFLE] and (not hints or hints[-1] > count // k):
            hints.append(count // k)
    lags = autocorrelation(samples)
    best, correlation = None, 0.0
    for hint in hints:
        reach = min(int(_PEAK_SECONDS / seconds), hint // 2)
        if lags[hint] > correlation and is_peak(lags, hint, reach):
            best, correlation = hint, float(lags[hint])
    return None if best is None else float(math.floor(best * seconds))


def error(actual: Floats, predicted: Floats) -> float:
    """Return the mean prediction error: relative, with underestimates amplified (10 % low counts .47).

    Near zero the mean absolute error is used.
    """
    if (actual < 1e-3).any():
        return float(np.abs(actual - predicted).mean())
    short = (actual - predicted) / actual
    with np.errstate(divide="ignore", invalid="ignore"):
        amplified = -np.log(1 - short) / math.log(1.25)
    return float(np.where(short > 0, amplified, -short).mean())


def extrapolated(samples: Floats, seconds: float, seed: int = 0) -> Floats | None:
    """Return the values after `samples`, over as many whole periods as observed; None: no period."""
    tried = [days * DAY_SECONDS for days in (7, 1)]
    length = next((span for span in tried if len(samples) * seconds >= 2 * span), None)
    if length is None:
        return None
    whole = _whole(samples, round(length / seconds))
    found = find_period(whole, seconds, seed)
    if found is None or found not in tried:
        return None
    period = round(found / seconds)
    signal = _whole(samples, period)
    periods = len(signal) // period
    if periods < 2:
        return None
    past, last = signal[:-period], signal[-period:]
    best = min(ESTIMATORS, key=lambda each: error(last, each.extrapolated(past, seconds, period)))
    return np.tile(best.extrapolated(signal, seconds, period), periods)


def without_outliers(samples: Floats) -> Floats:
    """Return samples with values beyond the outer thousandths replaced by the previous value."""
    low, high = np.percentile(samples, [0.1, 99.9])
    kept = samples.copy()
    for at in np.flatnonzero((samples > high) | (samples < low)).tolist():
        if at > 0:
            kept[at] = kept[at - 1]
    return kept


def predicted_peak(scenario: Scenario) -> Floats:
    """Return the predicted peak demand of the next hour at each decision step, requests/s.

    Zero without a prediction. The model is fitted every 12 h on finished minutes.
    """
    minutes = _minutes(scenario.demand)
    peak = np.zeros(len(scenario.demand) - scenario.begin)
    every = round(UPDATE_SECONDS / STEP_SECONDS)
    window = round(WINDOW_SECONDS / MINUTE)
    for first in range(scenario.begin, len(scenario.demand), every):
        closed = first // MINUTE_STEPS
        past = minutes[max(0, closed - round(HISTORY_SECONDS / MINUTE)) : closed]
        ahead = extrapolated(without_outliers(past), MINUTE) if len(past) else None
        if ahead is None:
            continue
        highest = coming_max(ahead, window)
        last = min(first + every, len(scenario.demand))
        minute = np.arange(first, last) // MINUTE_STEPS - closed
        peak[first - scenario.begin : last - scenario.begin] = highest[minute]
    return peak


def _minutes(demand: Floats) -> Floats:
    whole = len(demand) // MINUTE_STEPS * MINUTE_STEPS
    means: Floats = demand[:whole].reshape(-1, MINUTE_STEPS).mean(axis=1)
    return means


def _whole(samples: Floats, period: int) -> Floats:
    kept = len(samples) // period * period
    return samples[len(samples) - kept :]


def _slope(values: Sequence[float] | Floats) -> float:
    at = np.arange(len(values)) - (len(values) - 1) / 2
    return float((at * np.asarray(values)).sum())
