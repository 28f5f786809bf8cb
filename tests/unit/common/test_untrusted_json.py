"""Untrusted JSON fails with one declared error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.untrusted_json import InvalidJson, convert_errors, parse_json


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5_000,
        "NaN",
        "-Infinity",
        b"\xff\xfe\x00",
        b"",
        "{",
        '{"a": 1} x',
        "\ufeff{}",
    ],
    ids=repr,
)
def test_text_that_is_not_acceptable_json_raises_invalid_json(text: str | bytes) -> None:
    with pytest.raises(InvalidJson):
        parse_json(text)


def test_text_above_the_byte_limit_is_rejected_before_parsing() -> None:
    with pytest.raises(InvalidJson, match="the limit is 10 bytes"):
        parse_json("[" * 11, max_bytes=10)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise_invalid_json(text: bytes) -> None:
    with contextlib.suppress(InvalidJson):
        parse_json(text)


class Refused(ValueError):
    pass


@pytest.mark.parametrize(
    "error", [KeyError("a"), TypeError("x"), RecursionError(), AttributeError("y"), ValueError("z")]
)
def test_convert_errors_converts_every_exception(error: Exception) -> None:
    with pytest.raises(Refused, match="ConfigMap a/b: "), convert_errors(Refused, "ConfigMap a/b"):
        raise error


def test_convert_errors_passes_the_declared_error_unchanged() -> None:
    error = Refused("field x")
    with pytest.raises(Refused) as caught, convert_errors(Refused, "ConfigMap a/b"):
        raise error
    assert caught.value is error
