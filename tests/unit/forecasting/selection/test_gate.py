"""Rules of the gate, one case each."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.selection.gate import Gate, GateReason, decide, relative_cost


def gate(incumbent: str | None = None, **mean_costs: float) -> Gate:
    costs = {name.replace("_", "-"): np.full(100, value) for name, value in mean_costs.items()}
    return decide(costs, incumbent=incumbent)


@pytest.mark.parametrize(
    ("costs", "open", "model", "reason"),
    [
        ({"lstm": 0.8, "seasonal_naive": 1.5}, True, "lstm", GateReason.BEATS_BASELINES),
        ({"lstm": 0.8, "prophet": 0.7}, True, "prophet", GateReason.BEATS_BASELINES),
        ({"seasonal_naive": 0.3, "lstm": 0.5}, True, "seasonal-naive", GateReason.BEATS_LAST_VALUE),
        (
            {"seasonal_naive": 1.3, "lstm": 1.1},
            False,
            "last-value",
            GateReason.NO_MODEL_BEATS_LAST_VALUE,
        ),
        ({"lstm": 0.99}, False, "last-value", GateReason.NO_MODEL_BEATS_LAST_VALUE),
        ({}, False, "last-value", GateReason.NO_MODEL_BEATS_LAST_VALUE),
    ],
)
def test_cheapest_model_opens_the_gate_if_it_beats_both_baselines(
    costs: dict[str, float], open: bool, model: str, reason: GateReason
) -> None:
    gate_state = gate(None, last_value=1.0, **costs)
    assert (gate_state.open, gate_state.model, gate_state.reason) == (open, model, reason)
    assert gate_state.message
    assert gate_state.scores["last-value"] == 1.0


def test_current_model_stays_until_another_is_clearly_better() -> None:
    assert gate("lstm", last_value=1.0, lstm=0.80, prophet=0.79).model == "lstm"
    assert gate("lstm", last_value=1.0, lstm=0.80, prophet=0.70).model == "prophet"
    assert not gate("lstm", last_value=1.0, lstm=1.01).open


def test_models_are_compared_on_outcomes_they_share() -> None:
    """The learned model was scored in the quiet half only: the baseline's other half is out."""
    base = np.concatenate([np.full(50, 9.0), np.full(50, 1.0)])
    learned = np.concatenate([np.full(50, np.nan), np.full(50, 1.2)])
    assert relative_cost(learned, base) == pytest.approx(1.2)


def test_few_outcomes_keep_the_gate_closed() -> None:
    gate_state = decide({"last-value": np.ones(5), "lstm": np.zeros(5)})
    assert (gate_state.open, gate_state.reason) == (False, GateReason.TOO_FEW_OUTCOMES)
    assert "5 forecasts" in gate_state.message


def test_errorless_last_value_keeps_the_gate_closed() -> None:
    gate_state = gate(last_value=0.0, lstm=0.0)
    assert (gate_state.open, gate_state.reason) == (False, GateReason.CONSTANT_DEMAND)


def test_model_against_an_errorless_baseline_has_an_infinite_score() -> None:
    gate_state = gate(last_value=0.0, lstm=0.1)
    assert not gate_state.open
    assert "lstm" not in gate_state.scores
