"""Responses of a proxy, a login page or a broken store at the Prometheus URL."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_clients import Ask, configured
from r1_common.prometheus.response import HttpResponse, PrometheusError, QueryResult, read_response
from scripted_prometheus import Reply, Script, scripted, success

Client = tuple[Ask, Callable[..., bytes]]

HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>"


def error(kind: str, text: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": text}).encode()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, b"", ""), ("401 Unauthorized", "prometheus.auth")),
        (Reply(401, b"no org id\n", "text/plain"), ("401 Unauthorized", "no org id")),
        (Reply(403, HTML, "text/html"), ("403 Forbidden", "prometheus.auth")),
        (Reply(404, b"404 page not found", "text/plain"), ("404 Not Found", "prometheus.url")),
        (Reply(302, HTML, "text/html", {"Location": "https://login.example/?token=hush"}),
         ("302 Found", "https://login.example", "not followed")),
        (Reply(307, b"", "", {"Location": "/graph"}), ("307 Temporary Redirect", "same host")),
        (Reply(301, b"", ""), ("301 Moved Permanently", "no address")),
        (Reply(200, HTML, "text/html"), ("200 OK", "HTML page")),
        (Reply(200, HTML, "application/json"), ("200 OK", "HTML page")),
        (Reply(200, b"", "application/json"), ("200 OK", "empty")),
        (Reply(204, b"", ""), ("204 No Content",)),
        (Reply(200, b'{"status":"success","data":{"resu'), ("200 OK", "not JSON")),
        (Reply(200, b"pong", "text/plain"), ("200 OK", "text/plain", "not JSON")),
        (Reply(200, b"\xff\xfe\x00", "application/x-protobuf"), ("200 OK", "x-protobuf")),
        (Reply(200, b"[" * 100_000), ("200 OK", "nested too deeply")),
        (Reply(200, b"[]"), ("200 OK", "not an object")),
        (Reply(200, b"{}"), ("200 OK", "no query result")),
        (Reply(200, b'{"status":"success","data":{"resultType":"vector"}}'), ("lacks fields",)),
        (Reply(200, b'{"status":"success","data":null}'), ("200 OK", "no query result")),
        (Reply(200, error("bad_data", "parse error")), ("rejected the query", "parse error")),
        (Reply(400, error("bad_data", "1:5: parse error")), ("400 Bad Request", "1:5: parse")),
        (Reply(400, b"Client sent an HTTP request to an HTTPS server.\n", "text/plain"),
         ("400 Bad Request", "HTTPS server", "prometheus.url")),
        (Reply(422, error("execution", "too many samples")),
         ("422", "execution: too many samples")),
        (Reply(429, b"slow down", "text/plain"), ("429 Too Many Requests", "slow down")),
        (Reply(500, b"<html>", "text/html"), ("500 Internal Server Error",)),
        (Reply(502, HTML, "text/html"), ("502 Bad Gateway",)),
        (Reply(503, error("timeout", "query timed out")), ("503", "query timed out")),
        (Reply(599, b"", ""), ("599",)),
    ],
)  # fmt: skip
def test_a_response_without_a_result_is_reported_with_status_and_cause(
    client: Client, server: Script, reply: Reply, words: tuple[str, ...]
) -> None:
    ask, _ = client
    server.reply = reply
    outcome = ask(configured(server.url))
    assert isinstance(outcome, tuple)
    message = outcome[1]
    assert [word for word in (*words, f"Prometheus at {server.url}") if word not in message] == []
    assert "Expecting value" not in message
    assert "hush" not in message


def test_truncated_body_is_reported(client: Client, server: Script) -> None:
    ask, good = client
    server.reply = Reply(200, good(1.0), cut=20)
    outcome = ask(configured(server.url))
    assert isinstance(outcome, tuple)
    assert f"Prometheus at {server.url}" in outcome[1]


def test_redirect_is_not_followed(client: Client, server: Script) -> None:
    ask, good = client
    with scripted() as other:
        other.reply = Reply(200, good(1.0))
        server.reply = Reply(302, b"", "", {"Location": other.url + "/api/v1/query"})
        assert isinstance(ask(configured(server.url)), tuple)
        assert other.requests == []


def test_result_with_another_content_type_is_accepted(client: Client, server: Script) -> None:
    ask, good = client
    server.reply = Reply(200, good(7.0), "text/plain")
    assert ask(configured(server.url)) == 7.0


def test_server_without_a_response_is_reported_with_its_address(client: Client) -> None:
    ask, _ = client
    outcome = ask(configured("http://127.0.0.1:9"))
    assert isinstance(outcome, tuple)
    assert outcome[0] in ("Unreachable", "PrometheusUnreachable")
    assert "Prometheus at http://127.0.0.1:9 does not answer: " in outcome[1]


@pytest.mark.parametrize(
    "result",
    [
        [{"metric": {}}],
        [{"values": [[1]], "value": [1]}],
        [{"values": [["x", "y"]], "value": ["x", "y"]}],
        [{"values": 3, "value": 3}],
        [7],
        [None],
        [{"histograms": [], "histogram": []}],
    ],
)
def test_a_result_of_another_shape_is_a_typed_failure(
    client: Client, server: Script, result: list[object]
) -> None:
    ask, _ = client
    for kind in ("matrix", "vector"):
        server.reply = Reply(200, success(result, kind))
        assert isinstance(ask(configured(server.url)), tuple)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["status", "data", "result", "resultType", "warnings", "error", "isPartial"]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    st.integers(100, 999),
    st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["", "text/html", "application/json; charset=utf-8", "x"]),
    st.text(max_size=40),
)
def test_any_response_is_a_result_or_a_typed_failure(
    status: int, body: bytes, kind: str, location: str
) -> None:
    response = HttpResponse(status, {"content-type": kind, "Location": location}, body)
    outcome: QueryResult | PrometheusError
    try:
        outcome = read_response("http://prometheus:9090", response, ["secret"])
    except PrometheusError as failure:
        outcome = failure
    if isinstance(outcome, QueryResult):
        assert status == 200
        return
    assert str(outcome).isprintable()
    assert str(outcome).startswith("Prometheus at http://prometheus:9090 answered ")
    assert "Expecting value" not in str(outcome)
