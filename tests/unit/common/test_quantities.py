"""Exact quantities that keep their original spelling."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.kube.quantity import LARGEST, NotAQuantity, Quantity, parse_quantity


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (1000, Fraction(1000)),
        ("1000", Fraction(1000)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("500m", Fraction(1, 2)),
        ("100n", Fraction(1, 10_000_000)),
        ("1k", Fraction(1000)),
        ("1Ki", Fraction(1024)),
        ("8Gi", Fraction(8 * 2**30)),
        ("1e3", Fraction(1000)),
        ("1E3", Fraction(1000)),
        ("12E-1", Fraction(6, 5)),
        ("3E", Fraction(3 * 10**18)),
        ("-2", Fraction(-2)),
        ("+2", Fraction(2)),
    ],
)
def test_the_value_is_exact(raw: int | str, value: Fraction) -> None:
    assert parse_quantity(raw).value == value


@pytest.mark.parametrize(
    "raw",
    ["", " 1", "1 ", "many", "NaN", "Infinity", "1,5", "0x10", "1mm", "10/s", "1e", "--1", "1_000",
     "K", ".", "1KI", "١"],
)  # fmt: skip
def test_invalid_quantities_are_rejected_with_an_example(raw: str) -> None:
    with pytest.raises(NotAQuantity, match="is not a quantity such as 1000"):
        parse_quantity(raw)


@pytest.mark.parametrize("raw", [0.5, True, None, [], {}, float("nan")])
def test_other_kinds_are_rejected(raw: object) -> None:
    with pytest.raises(NotAQuantity, match="write an integer or a string"):
        parse_quantity(raw)


def test_small_values_round_up_and_large_ones_are_capped() -> None:
    assert Quantity("0.1n").value == Fraction(1, 10**9)
    assert Quantity("1e-400").value == Fraction(1, 10**9)
    assert Quantity("1e999999999").value == LARGEST
    assert Quantity("-1e30").value == -LARGEST


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        *((1, "1"), ("2000m", "2"), ("1500m", "1500m"), ("0.5", "500m"), ("1000", "1k")),
        *(("1.5Gi", "1536Mi"), ("2048Mi", "2Gi"), ("8Gi", "8Gi"), ("512Ki", "512Ki")),
        *(("0.5Ki", "512"), ("0", "0"), ("1e3", "1e3"), ("2000000", "2M"), ("0.1", "100m")),
    ],
)
def test_the_canonical_spelling_is_the_api_servers(raw: int | str, stored: str) -> None:
    assert Quantity(raw).canonical == stored


@given(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?(m|k|M|Ki|Mi|Gi|e3|E-2)?", fullmatch=True))
def test_the_canonical_spelling_has_the_same_value(raw: str) -> None:
    quantity = Quantity(raw)
    assert Quantity(quantity.canonical).value == quantity.value
    assert Quantity(quantity.canonical).canonical == quantity.canonical
