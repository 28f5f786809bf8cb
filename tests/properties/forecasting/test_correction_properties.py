"""Invariants of corrections for any forecast and history."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_forecasting.arrays import BoolArray, FloatArray
from r1_forecasting.calibration.conformal import MIN_SCORES
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.selection.ensemble import issue_all
from r1_forecasting.selection.mixture import MIXTURE

CALM = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEASON = 12.0

demand = st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 1e-9, 1e12, float("nan")]))


@st.composite
def backfills(draw: st.DrawFn) -> tuple[FloatArray, dict[str, FloatArray], FloatArray, list[float]]:
    """Outcomes (n,), quantiles of two models (n, levels), ceilings (n,) and the levels."""
    levels = sorted(draw(st.sets(st.floats(0.02, 0.98), min_size=1, max_size=4)))
    count = draw(st.integers(MIN_SCORES, 5 * int(SEASON)))
    piece = st.lists(demand, min_size=1, max_size=8)

    def row() -> FloatArray:
        return np.resize(np.array(draw(piece)), count)

    actual = row()
    raw = {
        name: np.stack([row() for _ in levels], axis=1) if crossed else np.tile(row()[:, None], q)
        for name, crossed, q in (("last-value", False, len(levels)), ("odd", True, len(levels)))
    }
    ceiling = 2 * np.fmax(np.fmax.accumulate(actual), 1.0)
    return actual, raw, ceiling, levels


@CALM
@given(backfills(), st.integers(1, 30), st.booleans())
def test_issued_quantiles_are_ordered_non_negative_and_complete(
    past: tuple[FloatArray, dict[str, FloatArray], FloatArray, list[float]],
    steps: int,
    keep_median: bool,
) -> None:
    actual, raw, ceiling, levels = past
    issued = issue_all(
        raw,
        actual,
        np.arange(len(actual)),
        steps,
        season=SEASON,
        levels=levels,
        scale=RootScale(0.1),
        ceiling=ceiling,
        keep_median=keep_median,
    )
    assert set(issued) == {*raw, MIXTURE}
    for name, rows in issued.items():
        missing: BoolArray = np.asarray(np.isnan(rows))
        unknown: BoolArray = np.asarray(missing.any(axis=1))
        assert (unknown == missing.all(axis=1)).all()
        predicted = rows[~unknown]
        assert np.isfinite(predicted).all()
        assert (predicted >= 0).all()
        assert (np.diff(predicted, axis=1) >= 0).all()
        assert (predicted <= ceiling[~unknown, None] + 1e-9).all()
        if name in raw:  # a forecast once calibrated stays so: no correction turns it into a gap
            silent: BoolArray = np.asarray(np.isnan(raw[name]).any(axis=1))
            first = int(np.argmin(unknown)) if not unknown.all() else len(rows)
            np.testing.assert_array_equal(unknown[first:], silent[first:])
