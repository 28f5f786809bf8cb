"""A model name reaches the resource that the common rule names."""

import pytest

from model_name_cases import CASES, Case
from r1_common.contracts.route import RouteSpec
from r1_gateway.routes.route_spec import build_model_table


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_model_table_follows_the_naming_rule(case: Case) -> None:
    specs = [RouteSpec(space, name, (name, *more), 1) for space, name, more in case.resources]
    table = build_model_table(specs)
    claimed = {(spec.key, model) for spec in specs for model in (spec.key, *spec.models)}
    expected = {
        (key, name): owner for key, lost in case.lost.items() for name, owner in lost.items()
    }
    for key, model in claimed:
        assert table.routes[model] == expected.get((key, model), key)
    assert set(table.routes) == {model for _, model in claimed}
    assert len(table.conflicts) == len(expected)
    for (key, model), owner in expected.items():
        assert f"model {model!r} of {key} belongs to {owner}" in table.conflicts
