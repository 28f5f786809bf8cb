"""A ceiling is exact: one more replica would exceed the budget."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.v1 import parse
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.scaling.reasons import DecisionReason

amounts = st.decimals("0.001", "1000", places=3)
quarters = st.integers(1, 200).map(lambda number: Decimal(number) / 4)


def spec_of(budget: dict[str, Any], gpus: int, least: int) -> Any:
    spec = {
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        "autoscaling": {
            "minReplicas": least,
            "maxReplicas": 10_000,
            "metrics": [{"type": "RequestsPerSecond", "target": 10}],
            "budget": budget,
        },
    }
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": {"name": "r1"}}
    return parse({**manifest, "spec": spec}, strict=True).spec


@given(
    gpus=st.integers(1, 16),
    least=st.integers(0, 12),
    total=st.integers(1, 400),
    price=amounts,
    paid=quarters,
    by_gpu=st.booleans(),
    watts=amounts,
    drawn=quarters,
)
def test_the_bound_is_what_is_paid_for_and_the_minimum_is_in_it(
    gpus: int,
    least: int,
    total: int,
    price: Decimal,
    paid: Decimal,
    by_gpu: bool,
    watts: Decimal,
    drawn: Decimal,
) -> None:
    limit, power = price * paid, watts * drawn
    kind = "pricePerGpuHour" if by_gpu else "pricePerReplicaHour"
    budget = {
        "gpus": total,
        "cost": {"limitPerHour": f"{limit:f}", kind: f"{price:f}"},
        "power": {"limitWatts": f"{power:f}", "wattsPerReplica": f"{watts:f}"},
    }
    each = {
        DecisionReason.AT_GPU_BUDGET: (Fraction(gpus), Fraction(total)),
        DecisionReason.AT_COST_BUDGET: (Fraction(price) * (gpus if by_gpu else 1), Fraction(limit)),
        DecisionReason.AT_POWER_BUDGET: (Fraction(watts), Fraction(power)),
    }
    fewest = max(1, least)
    try:
        spec = spec_of(budget, gpus, least)
    except Invalid:
        assert any(fewest * one > most for one, most in each.values()), "refused for no reason"
        return
    ceilings = ceilings_of(spec)
    assert {ceiling.reason for ceiling in ceilings} == set(each)
    for ceiling in ceilings:
        one, most = each[ceiling.reason]
        assert ceiling.replicas * one <= most < (ceiling.replicas + 1) * one
        assert fewest <= ceiling.replicas
