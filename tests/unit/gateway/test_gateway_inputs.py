"""Inputs of the gateway (classes, keys, routes, bodies, flags) and their error messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1_common.contracts.priority_classes import PriorityClass, UnknownClass
from r1_common.contracts.route import InvalidRoute, RouteSpec, parse_route
from r1_gateway.admission.classes import choose_class
from r1_gateway.http.completion_request import CompletionRequest, parse_completion, with_model
from r1_gateway.http.errors import ApiError
from r1_gateway.http.response_head import edit_head, read_head
from r1_gateway.http.upstream import split_address
from r1_gateway.options import parse_options
from r1_gateway.routes.route_spec import build_model_table
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, RouteStats
from r1_gateway.static_config import parse_config

Q1, Q2, Q3 = PriorityClass


@pytest.mark.parametrize(
    ("requested", "key_default", "key_limit", "expected"),
    [
        (None, None, None, Q2),
        ("Q1", None, None, Q1),
        (" q3 ", Q1, None, Q3),
        (None, Q3, None, Q3),
        ("Q1", Q3, Q2, Q2),
        ("Q3", Q1, Q2, Q3),
        (None, None, Q3, Q3),
    ],
)
def test_class_of_a_request(
    requested: str | None,
    key_default: PriorityClass | None,
    key_limit: PriorityClass | None,
    expected: PriorityClass,
) -> None:
    chosen = choose_class(requested, route_default=Q2, key_default=key_default, key_limit=key_limit)
    assert chosen is expected


@pytest.mark.parametrize("name", ["", "Q4", "high", "1", "Q1,Q2"])
def test_an_unknown_class_names_the_known(name: str) -> None:
    with pytest.raises(UnknownClass, match="Q1, Q2, Q3"):
        choose_class(name, route_default=Q2)


ROUTE: dict[str, Any] = {
    "namespace": "default",
    "name": "production-r1",
    "models": ["production-r1", "chat"],
    "defaultClass": "Q3",
    "classes": {
        "Q1": {
            "maxQueueLength": 9,
            "maxQueueSeconds": 8,
            "ageAfterSeconds": 7,
            "timeToFirstTokenMilliseconds": 500,
        },
        "Q2": {},
        "Q3": {},
    },
    "seatsPerReplica": 8,
    "mayWake": True,
}


def test_a_route_of_the_operator_is_read() -> None:
    spec = parse_route({**ROUTE, "fromANewerOperator": 1})
    assert spec.key == "default/production-r1"
    assert spec.models == ("production-r1", "chat")
    assert (spec.default_class, spec.seats_per_replica, spec.may_wake) == (Q3, 8, True)
    policy = spec.policies[Q1]
    assert (policy.max_queue_length, policy.max_queue_seconds, policy.age_after_seconds) == (
        9,
        8,
        7,
    )
    assert policy.time_to_first_token_seconds == 0.5
    assert spec.policies[Q2].max_queue_length == 512


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"namespace": None}, "namespace must be"),
        ({"name": "Not_A_Name"}, "name must be"),
        ({"models": "chat"}, "models must be"),
        ({"models": [""]}, "models must be"),
        ({"seatsPerReplica": None}, "seatsPerReplica must be a whole number from 1"),
        ({"seatsPerReplica": 0}, "seatsPerReplica"),
        ({"seatsPerReplica": True}, "seatsPerReplica"),
        ({"seatsPerReplica": 2.5}, "seatsPerReplica"),
        ({"mayWake": "yes"}, "mayWake"),
        ({"defaultClass": "Q7"}, "defaultClass"),
        ({"classes": []}, "classes must be"),
        ({"classes": {"Q4": {}}}, "unknown class 'Q4'"),
        ({"classes": {"Q1": 3}}, "classes.Q1 must be"),
        ({"classes": {"Q1": {"maxQueueLength": -1}}}, "classes.Q1.maxQueueLength"),
        ({"classes": {"Q2": {"maxQueueSeconds": "1"}}}, "classes.Q2.maxQueueSeconds"),
        ({"classes": {"Q2": {"ageAfterSeconds": float("nan")}}}, "classes.Q2.ageAfterSeconds"),
    ],
)
def test_an_invalid_route_names_the_field(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRoute, match=words):
        parse_route({**ROUTE, **change})


def test_the_oldest_claim_to_a_name_wins_and_the_full_name_always_works() -> None:
    old = RouteSpec("a", "r1", ("r1", "chat"), 1)
    new = RouteSpec("b", "r1", ("r1", "fast"), 1)
    thief = RouteSpec("c", "thief", ("thief", "chat", "a/r1"), 1)
    table = build_model_table([old, new, thief])
    assert table.routes == {
        "r1": "a/r1", "chat": "a/r1", "a/r1": "a/r1", "b/r1": "b/r1", "fast": "b/r1",
        "thief": "c/thief", "c/thief": "c/thief",
    }  # fmt: skip
    assert len(table.conflicts) == 3


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [("x", "list"), (["x"], "host:port"), (["x:"], "host:port"), ([{"ready": True}], "address")],
)
def test_a_wrong_endpoint_is_named(endpoints: object, words: str) -> None:
    with pytest.raises(InvalidRoute, match=words):
        parse_config({"routes": [{**ROUTE, "endpoints": endpoints}]})


def test_static_config_defines_routes_and_pods() -> None:
    config = parse_config(
        {"routes": [{**ROUTE, "endpoints": ["h:1", {"address": "[::1]:2", "ready": False}]}]}
    )
    assert config.pods == {"default/production-r1": {"h:1": True, "[::1]:2": False}}
    assert split_address("[::1]:2") == ("::1", 2)
    with pytest.raises(InvalidRoute, match="same namespace and name"):
        parse_config({"routes": [ROUTE, ROUTE]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "m"}, CompletionRequest("m", False, 0, None)),
        ({"model": "m", "prompt": "abc", "stream": True}, CompletionRequest("m", True, 3, None)),
        ({"model": "m", "prompt": ["ab", "é"]}, CompletionRequest("m", False, 4, None, 2)),
        ({"model": "m", "prompt": [1, 2, 3]}, CompletionRequest("m", False, 12, None)),
        ({"model": "m", "prompt": [[1, 2], [3]]}, CompletionRequest("m", False, 12, None, 2)),
        (
            {
                "model": "m",
                "max_tokens": 9,
                "messages": [
                    {"content": "abcd"},
                    {"content": [{"type": "text", "text": "ef"}, {"type": "image_url"}]},
                    {"content": None},
                    7,
                ],
            },
            CompletionRequest("m", False, 6, 9),
        ),
        (
            {"model": "m", "max_tokens": 9, "max_completion_tokens": 3},
            CompletionRequest("m", False, 0, 3),
        ),
        ({"model": "m", "max_tokens": "9"}, CompletionRequest("m", False, 0, None)),
        ({"model": "m", "max_tokens": True}, CompletionRequest("m", False, 0, None)),
    ],
)
def test_fields_of_a_completion_body_are_read(body: object, expected: CompletionRequest) -> None:
    assert parse_completion(json.dumps(body, ensure_ascii=False).encode()) == expected


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, 1),
        ({"n": 8}, 8),
        ({"prompt": "one"}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": []}, 1),
        ({"prompt": ["a"] * 64}, 64),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": "one", "n": 2, "best_of": 5}, 5),
        ({"n": 0}, 1),
        ({"n": -4}, 1),
        ({"n": True}, 1),
        ({"n": "8"}, 1),
        ({"n": 8.0}, 1),
        ({"n": 10**30}, 1),
        ({"n": None, "best_of": None}, 1),
    ],
)
def test_a_request_is_as_wide_as_the_sequences_it_asks_for(
    fields: dict[str, object], width: int
) -> None:
    body = json.dumps({"model": "m", **fields}).encode()
    assert parse_completion(body).width == width


def test_a_deeply_nested_body_is_a_bad_request() -> None:
    deep = b'{"model":"m","prompt":' + b"[" * 900 + b"]" * 900 + b"}"
    assert parse_completion(deep).prompt_bytes == 4
    with pytest.raises(ApiError) as caught:
        parse_completion(b'{"model":' + b"[" * 100_000)
    assert caught.value.status == 400


def test_the_model_can_be_renamed() -> None:
    assert json.loads(with_model(b'{"model": "a/b", "x": [1]}', "b")) == {"model": "b", "x": [1]}


def test_offered_tokens_are_prompt_bytes_over_four_plus_expected_output() -> None:
    stats = RouteStats()
    stats.offer(Q1, stats.estimate(400, 7))
    stats.offer(Q1, stats.estimate(400, None))
    stats.offer(Q1, stats.estimate(0, 100_000))
    assert stats.offered_tokens[Q1] == 107 + 228 + 128
    for _ in range(500):
        stats.generated(0, 10)
    stats.offer(Q2, stats.estimate(0, None))
    assert stats.offered_tokens[Q2] in (10, 11)
    assert stats.offered_requests == [3, 1, 0]


def test_histogram_bounds_include_their_value() -> None:
    stats = RouteStats()
    stats.queue_wait[Q1].observe(SECONDS_BUCKETS[0])
    stats.queue_wait[Q1].observe(1e9)
    assert stats.queue_wait[Q1].counts[0] == stats.queue_wait[Q1].counts[-1] == 1


def test_a_response_head_gets_new_lines_and_loses_connection_headers_only() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\n"
    facts = read_head(head)
    assert facts.content_length == 5
    assert facts.header(b"server") == b"x"
    assert facts.header(b"retry-after") is None
    assert edit_head(head, facts, b"a: b\r\n") == head[:-2] + b"a: b\r\n\r\n"
    closing = head[:-2] + b"Connection: close\r\nX-Request-ID: 1\r\n\r\n"
    assert edit_head(closing, read_head(closing), b"a: b\r\n") == head[:-2] + b"a: b\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read_head(chunked).is_chunked
    assert edit_head(chunked, read_head(chunked), b"", dechunk=True) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_flags_win_over_the_environment_and_the_environment_over_defaults() -> None:
    env = {"R1_GATEWAY_PORT": "9", "R1_GATEWAY_KEYS_FILE": "/k", "R1_GATEWAY_DRAIN_SECONDS": "3"}
    options = parse_options(["--port", "10"], env)
    assert (options.port, options.keys_file, options.drain_seconds) == (10, Path("/k"), 3.0)
    assert (options.admin_port, options.config, options.access_log) == (8081, None, False)
    assert parse_options([], {"R1_GATEWAY_PORT": "tcp://10.96.0.7:80"}).port == 8000


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "x"],
        ["--max-body-bytes", "0"],
        ["--max-buffered-bytes", "1"],
        ["--drain-seconds", "-1"],
        ["--log-level", "loud"],
        ["--gateway-service", "name"],
        ["--prot", "1"],
    ],
)
def test_invalid_flags_are_rejected(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(flags, {})
    assert caught.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--help"], {})
    text = capsys.readouterr().out
    for word in ("--config", "x-r1-priority", "R1_GATEWAY_", "/signals"):
        assert word in text
