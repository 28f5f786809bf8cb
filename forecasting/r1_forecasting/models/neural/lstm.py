"""A small LSTM with quantile heads, for short horizons.

One recurrent layer reads the last 60 steps in patches. A head reads its state, the phase and the
earlier seasons ahead. It returns quantiles of the value at, and of the maximum up to, a few horizons
(knots), as changes from the present on the root scale. Training by pinball loss in torch takes
seconds on one core. The fitted object holds the weights as arrays and predicts with numpy, so the
service never loads torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.neural.adam import AdamW, one_cycle
from r1_forecasting.models.neural.lstm_inputs import CONTEXT, Inputs, build_inputs
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.series.windows import future, future_peak, knots
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

HEADS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.99)
"""Trained levels; others are interpolated and conformally corrected."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Arrays named as in ``torch.nn.LSTM`` (gates i, f, g, o) and the two head layers."""

    weight_ih: FloatArray
    weight_hh: FloatArray
    bias: FloatArray
    hidden_w: FloatArray
    hidden_b: FloatArray
    out_w: FloatArray
    out_b: FloatArray

    def forward(self, context: FloatArray, side: FloatArray) -> FloatArray:
        """(n, patches, 2 * PATCH) and (n, side) -> (n, out) raw head outputs."""
        size = self.weight_hh.shape[1]
        h = np.zeros((len(context), size))
        c = np.zeros_like(h)
        for t in range(context.shape[1]):
            gates = context[:, t] @ self.weight_ih.T + h @ self.weight_hh.T + self.bias
            i, f, o = (_sigmoid(gates[:, k * size : (k + 1) * size]) for k in (0, 1, 3))
            c = f * c + i * np.tanh(gates[:, 2 * size : 3 * size])
            h = o * np.tanh(c)
        hidden = np.maximum(
            np.concatenate([h, side], axis=1) @ self.hidden_w.T + self.hidden_b, 0.0
        )
        return hidden @ self.out_w.T + self.out_b


@dataclass(frozen=True, slots=True, eq=False)
class FittedLstm:
    """Weights and the scaling of their training."""

    weights: Weights
    scale: RootScale
    unit: float
    season: float
    knots: IntArray
    trained_until: float
    name: str = "lstm"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        now, heads = self._heads(series, origins)
        at_horizon = _along(np.log(self.knots), heads[:, 0], np.log(horizons), axis=1)
        roots = now[:, None, None] + _along(np.array(HEADS), at_horizon, np.array(levels), axis=2)
        return self.scale.back(roots)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        now, heads = self._heads(series, origins)
        at_lead = _along(np.log(self.knots), heads[:, 1], np.log([steps]), axis=1)[:, 0]
        return self.scale.back(now[:, None] + _along(np.array(HEADS), at_lead, np.array(levels), 1))

    def _heads(self, series: Series, origins: IntArray) -> tuple[FloatArray, FloatArray]:
        """Present (n,) and changes (n, 2, knots, HEADS) on the root scale; NaN: no present."""
        inputs = build_inputs(
            series,
            origins,
            scale=self.scale,
            unit=self.unit,
            season=self.season,
            knots=self.knots,
        )
        raw = self.weights.forward(inputs.context, inputs.side) * self.unit
        heads = np.sort(raw.reshape(len(origins), 2, len(self.knots), len(HEADS)), axis=3)
        return inputs.now, heads


@dataclass(frozen=True, slots=True)
class Lstm:
    """``epochs`` over at most ``most_windows`` windows, cut short after ``seconds`` of CPU."""

    units: int = 32
    epochs: int = 30
    max_windows: int = 4000
    seconds: float = 30.0
    seed: int = 0
    name: str = "lstm"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        if len(series) < 2 * CONTEXT or len(series) < 2 * shape.season:
            need = int(max(2 * CONTEXT, 2 * shape.season))
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{len(series)} steps of history, needs {need}",
            )
        scale = RootScale.of(series)
        steps = knots(max(shape.lead, shape.horizon))
        unit = _spread(series, scale, int(max(shape.lead, 1)))
        if unit <= 0:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA, "demand is constant: there is nothing to train on"
            )
        origins = np.unique(
            np.linspace(CONTEXT // 2, len(series) - 2, self.max_windows).astype(np.int64)
        )
        inputs = build_inputs(
            series, origins, scale=scale, unit=unit, season=shape.season, knots=steps
        )
        target = _targets(series, origins, steps, scale, inputs.now, unit)
        usable = inputs.usable & ~np.isnan(target).all(axis=(1, 2))
        if int(usable.sum()) < CONTEXT:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{int(usable.sum())} windows without gaps, needs {CONTEXT}",
            )
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # more threads slow down matrices this small
        try:
            weights = self._train(inputs, target, usable)
        finally:
            torch.set_num_threads(threads)
        if not all(np.isfinite(getattr(weights, part)).all() for part in Weights.__slots__):
            return ForecastUnavailable(UnavailableReason.FAILED, "training diverged")
        return FittedLstm(weights, scale, unit, shape.season, steps, series.end)

    def _train(self, inputs: Inputs, target: FloatArray, usable: Any) -> Weights:
        import torch

        torch.manual_seed(self.seed)
        context = torch.tensor(inputs.context[usable], dtype=torch.float32)
        side = torch.tensor(inputs.side[usable], dtype=torch.float32)
        wanted = torch.tensor(target[usable], dtype=torch.float32)
        known = ~torch.isnan(wanted)
        wanted = torch.nan_to_num(wanted)
        levels = torch.tensor(HEADS)
        recurrent = torch.nn.LSTM(context.shape[2], self.units, batch_first=True)
        hidden = torch.nn.Linear(self.units + side.shape[1], self.units)
        out = torch.nn.Linear(self.units, wanted[0].numel() * len(HEADS))
        torch.nn.init.zeros_(out.weight)  # starts as the last value
        torch.nn.init.zeros_(out.bias)
        modules = torch.nn.ModuleList([recurrent, hidden, out])
        batch = 256
        batches = -(-len(context) // batch)
        optimizer = AdamW(modules.parameters(), weight_decay=1e-3)
        started = time.thread_time()  # CPU time, so that a busy machine trains the same model
        for _ in range(self.epochs):
            for rows in torch.split(torch.randperm(len(context)), batch):
                state = recurrent(context[rows])[1][0][0]
                mixed = torch.relu(hidden(torch.cat([state, side[rows]], dim=1)))
                heads = out(mixed).reshape(len(rows), *wanted.shape[1:], len(HEADS))
                error = wanted[rows].unsqueeze(-1) - heads
                pinball = torch.maximum(levels * error, (levels - 1) * error).mean(dim=-1)
                loss = (pinball * known[rows]).sum() / known[rows].sum().clamp(min=1)
                torch.autograd.backward(loss)
                rate = one_cycle(optimizer.steps / (self.epochs * batches), peak=6e-3)
                optimizer.step(rate, clip=1.0)
            if time.thread_time() - started > self.seconds:
                break

        def array(tensor: Any) -> FloatArray:
            return np.asarray(tensor.detach().numpy(), dtype=np.float64)

        return Weights(
            array(recurrent.weight_ih_l0),
            array(recurrent.weight_hh_l0),
            array(recurrent.bias_ih_l0) + array(recurrent.bias_hh_l0),
            array(hidden.weight),
            array(hidden.bias),
            array(out.weight),
            array(out.bias),
        )


def _targets(
    series: Series,
    origins: IntArray,
    steps: IntArray,
    scale: RootScale,
    now: FloatArray,
    unit: float,
) -> FloatArray:
    """(origins, 2, knots): change to the value at, and to the maximum up to, each knot."""
    ahead = future(series.values, origins, int(steps[-1]))[:, steps - 1]
    peaks = np.stack([future_peak(series.values, origins, int(k)) for k in steps], axis=1)
    both = np.stack([ahead, peaks], axis=1)
    changes: FloatArray = np.clip((scale.to(both) - now[:, None, None]) / unit, -12, 12)
    return changes


def _spread(series: Series, scale: RootScale, steps: int) -> float:
    """Typical (root mean square) change over ``steps`` on the root scale."""
    roots = scale.to(series.values)
    change = roots[steps:] - roots[:-steps]
    observed = change[~np.isnan(change)]
    return float(np.sqrt(np.mean(observed**2))) if len(observed) else 0.0


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _along(grid: FloatArray, values: FloatArray, wanted: FloatArray, axis: int) -> FloatArray:
    """Linear interpolation of ``values`` along ``axis`` from ``grid`` to ``wanted``, clamped."""
    if len(grid) == 1:
        return np.repeat(values, len(wanted), axis=axis)
    right = np.clip(np.searchsorted(grid, wanted), 1, len(grid) - 1)
    share = np.clip((wanted - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)
    shape = [1] * values.ndim
    shape[axis] = len(wanted)
    low, high = np.take(values, right - 1, axis=axis), np.take(values, right, axis=axis)
    mixed: FloatArray = low + (high - low) * share.reshape(shape)
    return mixed
