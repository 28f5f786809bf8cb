"""The first token and the token counts, in the streams of several engines, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_gateway.http.stream_reader import LINE_BYTES, StreamReader, carries_token, plain_usage

USAGE = {"prompt_tokens": 9, "total_tokens": 509, "completion_tokens": 500}


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(delta: object, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


ROLE = chunk({"role": "assistant", "content": ""})
DONE = b"data: [DONE]\n\n"
USAGE_EVENT = event({"id": "c", "choices": [], "usage": USAGE})

STREAMS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "vLLM chat": (
        [ROLE],
        [chunk({"content": "a"}), chunk({"content": "b"}, "stop"), USAGE_EVENT, DONE],
    ),
    "vLLM chat, usage in every chunk": (
        [chunk({"role": "assistant", "content": ""}, usage={"completion_tokens": 0})],
        [
            chunk({"content": "a"}, usage={"completion_tokens": 1}),
            chunk({"content": ""}, "stop", usage=USAGE),
            DONE,
        ],
    ),
    "vLLM reasoning": (
        [ROLE],
        [chunk({"reasoning_content": "hm"}), chunk({"content": "a"}), USAGE_EVENT, DONE],
    ),
    "vLLM reasoning, newer name": ([ROLE], [chunk({"reasoning": "hm"}), USAGE_EVENT, DONE]),
    "SGLang chat": (
        [
            chunk(
                {"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None}
            ),
            b": ping\n\n",
        ],
        [
            chunk({"role": None, "content": "a", "reasoning_content": None}),
            chunk({"content": None}, "stop"),
            USAGE_EVENT,
            DONE,
        ],
    ),
    "SGLang tool call": (
        [ROLE, chunk({"tool_calls": []})],
        [
            chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}),
            chunk({}, "tool_calls"),
            USAGE_EVENT,
            DONE,
        ],
    ),
    "completions": (
        [b": comment\r\n\r\n", event({"choices": [{"text": ""}]})],
        [event({"choices": [{"text": "a"}]}), event({"choices": [], "usage": USAGE}), DONE],
    ),
    "second choice first": (
        [ROLE],
        [
            event({"choices": [{"delta": {}}, {"delta": {"content": "a"}}]}),
            USAGE_EVENT,
            DONE,
        ],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_first_token_is_the_first_event_with_content(name: str) -> None:
    before, after = STREAMS[name]
    reader = StreamReader(is_event_stream=True)
    assert [reader.feed(piece) for piece in before] == [False] * len(before)
    assert [reader.feed(piece) for piece in after] == [True] + [False] * (len(after) - 1)
    assert reader.completion_tokens() == 500


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", STREAMS)
@given(cuts=st.lists(st.integers(0, 1200), max_size=12))
def test_packets_may_end_anywhere(name: str, ending: bytes, cuts: list[int]) -> None:
    before, after = (b"".join(part).replace(b"\n", ending) for part in STREAMS[name])
    first = after.index(b"\n") + 1  # the line with the token has come
    whole = before + after
    places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    reader = StreamReader(is_event_stream=True)
    found_at = None
    for start, end in itertools.pairwise(places):
        if reader.feed(whole[start:end]):
            assert found_at is None
            found_at = end
    assert found_at is not None
    assert found_at >= len(before) + first
    assert all(end < len(before) + first or end >= found_at for end in places)
    assert reader.completion_tokens() == 500
    assert reader.events == after.count(b"data:")


@pytest.mark.parametrize(
    "stream",
    [
        [ROLE, chunk({}, "stop"), DONE],
        [chunk({"role": "assistant", "content": None}, "length"), USAGE_EVENT, DONE],
        [event({"error": {"message": "out of memory", "code": 500}}), DONE],
        [DONE],
        [b": ping\n\n"] * 5,
        [b"data: not JSON\n\n", b"data: [1, 2]\n\n", b"data: 7\n\n", b"event: x\n\n", b"\n\n"],
        [event({"choices": None}), event({"choices": [None, {"delta": None}, {"delta": []}]})],
        [b"data: " + b"[" * 5000 + b"\n\n"],
        [b"data: \xff\xfe\n\n"],
    ],
)
def test_a_stream_without_content_has_no_first_token(stream: list[bytes]) -> None:
    reader = StreamReader(is_event_stream=True)
    assert not any(reader.feed(piece) for piece in stream)
    assert not reader.first_token
    assert reader.events == 0


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_can_be_read(data: bytes, size: int) -> None:
    reader = StreamReader(is_event_stream=True)
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
    reader.completion_tokens()


def test_a_text_that_quotes_a_usage_is_no_usage() -> None:
    reader = StreamReader(is_event_stream=True)
    reader.feed(chunk({"content": '"completion_tokens": 7 data: x \n\ndata: y'}))
    assert reader.completion_tokens() is None
    assert reader.events == 1


def test_a_line_without_end_takes_no_memory() -> None:
    reader = StreamReader(is_event_stream=True)
    for _ in range(300):
        reader.feed(b"x" * 1000)
    assert len(reader._rest) <= LINE_BYTES + 1000
    reader = StreamReader(is_event_stream=False)
    reader.feed(b"x" * 3 * LINE_BYTES + b'"completion_to')
    reader.feed(b'kens": 50')
    reader.feed(b"0}}")
    assert reader.completion_tokens() == 500


def test_a_refusal_is_output() -> None:
    assert carries_token(b'{"choices": [{"delta": {"refusal": "no"}}]}')
    assert not carries_token(b'{"choices": [{"delta": {"refusal": null}}]}')


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b'data: {"id":"%s","error":{"message":"m"}}\n\n' % (b"c" * 99), True),
        (b'error: {"code":500,"message":"m"}\n\n', True),
        (b'event: error\ndata: {"error":"m","error_type":"generation"}\n\n', True),
        (b'data: {"object":"error","message":"m"}\n\n', True),
        (b'data: {"error":null,"choices":[]}\n\n', False),
        (b'data: {"choices":[{"text":"","stop":"error"}]}\n\n', False),
    ],
)
def test_an_error_before_any_token_is_found_in_the_forms_of_the_engines(
    stream: bytes, error: bool
) -> None:
    reader = StreamReader(is_event_stream=True)
    reader.feed(stream)
    assert (reader.error, reader.first_token) == (error, False)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (b'{"prompt_tokens": 7, "completion_tokens": 9}', (7, 9)),
        (b'{"prompt_tokens":7,"total_tokens":16,"completion_tokens":9}', (7, 9)),
        (b'{"completion_tokens":9,"prompt_tokens":7}', (7, 9)),
        (b'{"prompt_tokens":7,"prompt_tokens_details":{"cached":1},"completion_tokens":9}', (7, 9)),
        (b'{"completion_tokens":9}', (None, 9)),
        (b'{"prompt_tokens":7}', (None, None)),
        (b'{"completion_tokens":null}', (None, None)),
    ],
)
def test_the_usage_of_a_whole_response_is_read_in_any_order(
    usage: bytes, expected: tuple[int | None, int | None]
) -> None:
    text = rb'"content": "\"prompt_tokens\": 1, \"completion_tokens\": 1"'
    assert plain_usage(b"{" + text + b', "usage": ' + usage + b"}") == expected
