"""Fields of completion bodies, large and small, as a JSON parser reads them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1_common.contracts.route import InvalidRoute, parse_route
from r1_common.contracts.seat_reservations import InvalidReservation, parse_reservations
from r1_gateway.http import completion_request
from r1_gateway.http.completion_request import CompletionRequest, parse_completion, with_model
from r1_gateway.http.errors import ApiError
from r1_gateway.static_config import parse_config
from r1_gateway.tenants.keys import InvalidKeys, parse_keys

KEYS = st.sampled_from(
    ["model", "stream", "max_tokens", "max_completion_tokens", "messages", "prompt", "content", "x"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**17)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=8)
    | st.sampled_from(["m", "model", '"model":"x"', "\\", "é", "\U0001f600"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An object with repeated and escaped keys, and now and then a fault in its text."""
    fields = []
    for _ in range(draw(st.integers(0, 7))):
        key = json.dumps(draw(KEYS))
        if draw(st.booleans()):
            at = draw(st.integers(1, len(key) - 2))
            key = key[:at] + f"\\u{ord(key[at]):04x}" + key[at + 1 :]
        value = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()))
        space = draw(st.sampled_from(["", " ", "\n\t"]))
        fields.append(f"{space}{key}{space}:{space}{value}{space}")
    body = ("{" + ",".join(fields) + "}").encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 2)) :]
    return body


def outcome(read: Any, body: bytes) -> CompletionRequest | str:
    try:
        result: CompletionRequest = read(body)
    except ApiError as error:
        return error.code if error.param is None else error.param
    return result


@given(bodies())
@example(b'{"model":"a","model":"b"}')
@example(b'{"mod\\u0065l":"a"}')
@example(b'{"x":{"model":"a"}}')
@example(b'{"x":"\\",\\"model\\":\\"a\\""}')
@example(b'{"model":"\\ud83d\\ude00"}')
@example(b'{"model":"m","x":"\\ud800"}')
@example(b'{"model":"m","x":"\xff"}')
@example(b'\xef\xbb\xbf{"model":"m"}')
@example(b'{"model":"m"}{"model":"n"}')
def test_a_large_body_is_read_as_a_small_one(body: bytes) -> None:
    by_parser, by_scan = outcome(parse_completion, body), outcome(completion_request._scan, body)
    if by_parser == "invalid_json":
        try:
            json.loads(body)
        except ValueError:
            assert by_scan == "invalid_json"
        else:  # a number that no float holds is JSON: the engine decides
            return
    assert by_scan == by_parser


@given(bodies())
def test_a_renamed_body_differs_in_the_model_only(body: bytes) -> None:
    try:
        before = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    assert orjson.loads(with_model(body, "new")) == {**before, "model": "new"}


@pytest.mark.parametrize("body", [
    b'{"model":"a/b","x":{"model":"a/b"},"y":[%s]}',
    b'{"x":{"model":"a/b"},"y":[%s], "model" :\n"a/b"}',
    b'{"model":"c","y":[%s],"model":"a/b"}',
])  # fmt: skip
def test_a_large_body_is_renamed_in_place(body: bytes) -> None:
    body %= b",".join([b"1"] * 200_000)
    assert orjson.loads(with_model(body, "new")) == {**orjson.loads(body), "model": "new"}


def test_a_large_body_whose_model_cannot_be_found_is_refused() -> None:
    with pytest.raises(ApiError, match="without escapes"):
        with_model(b'{"mod\\u0065l":"a/b","y":[%s1]}' % (b"1," * 200_000), "new")


def test_a_small_body_that_only_one_parser_reads_is_refused() -> None:
    body = b'{"model":"a/b","x":%s%s}' % (b"[" * 1010, b"]" * 1010)
    assert parse_completion(body).model == "a/b"
    with pytest.raises(ApiError, match="nested too deeply"):
        with_model(body, "new")


@given(
    st.integers(0, 3),
    st.sampled_from(["[", '{"a":', "[[],"]),
    st.sampled_from([500, 5000, 100_000]),
)
def test_nesting_of_any_depth_is_read_or_refused(kind: int, piece: str, depth: int) -> None:
    body = b'{"model":"m","x":' + piece.encode() * depth
    assert outcome(completion_request._scan, body) == "invalid_json"
    assert outcome(parse_completion, body) == "invalid_json"


DOCUMENTS = st.recursive(
    SCALARS | st.integers() | st.floats() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "namespace", "name", "models", "seatsPerReplica", "classes", "Q1", "maxQueueLength",
                "maxQueueSeconds", "timeouts", "totalSeconds", "routes", "endpoints",
                "address", "port", "tenant", "maxClass", "validSeconds", "a" * 64, "a/b", "defaultClass",
            ]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip
ROUTE = {"namespace": "a", "name": "b", "seatsPerReplica": 1}


@given(DOCUMENTS)
def test_a_parser_of_foreign_text_raises_its_declared_error_only(document: Any) -> None:
    fields = document if isinstance(document, dict) else {}
    for read, error, given_ in (
        (parse_route, InvalidRoute, document),
        (parse_route, InvalidRoute, {**ROUTE, **fields}),
        (parse_config, InvalidRoute, document),
        (parse_config, InvalidRoute, {"routes": [{**ROUTE, **fields}]}),
        (parse_keys, InvalidKeys, document),
        (parse_keys, InvalidKeys, {"a" * 64: fields}),
        (lambda text: parse_reservations(text), InvalidReservation, json.dumps(document).encode()),
        (
            lambda text: parse_reservations(text),
            InvalidReservation,
            json.dumps({"validSeconds": 1, "routes": {"a/b": fields}}).encode(),
        ),
    ):
        try:
            read(given_)
        except error as caught:
            str(caught)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reservation_request_or_rejected(body: bytes) -> None:
    with contextlib.suppress(InvalidReservation):
        parse_reservations(body)
