"""Requests as careless, careful and hostile clients send them, with the response that each must get."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

CHATS, TEXTS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
EMBEDDINGS, TOKENIZE, DETOKENIZE = "/v1/embeddings", "/tokenize", "/detokenize"
JSON = {"Content-Type": "application/json"}
USER = {"role": "user", "content": "hello"}
BASE: dict[str, dict[str, Any]] = {
    CHATS: {"model": "tiny", "messages": [USER], "max_tokens": 2},
    TEXTS: {"model": "tiny", "prompt": "hello", "max_tokens": 2},
    RESPONSES: {"model": "tiny", "input": "hello", "max_output_tokens": 2},
    EMBEDDINGS: {"model": "tiny", "input": "hello"},
    TOKENIZE: {"prompt": "hello"},
    DETOKENIZE: {"tokens": [5, 6]},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@dataclass(frozen=True, slots=True)
class OddRequest:
    """One request and its response.

    Attributes:
        name: for the report.
        path: of the URL.
        body: bytes of the body.
        status: of the response.
        param: `error.param`; None where no field is to blame.
        hint: a part of `error.message`.
        headers: of the request.
        method: of the request.
    """

    name: str
    path: str
    body: bytes
    status: int = 200
    param: str | None = None
    hint: str = ""
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    method: str = "POST"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def _name(path: str, fields: dict[str, Any]) -> str:
    text = json.dumps(fields)
    return f"{path} {text if len(text) < 150 else f'{text[:100]}... {len(text)} characters'}"


def _changed(path: str, fields: dict[str, Any]) -> bytes:
    return json.dumps(BASE[path] | fields).encode()


def refused(path: str, fields: dict[str, Any], param: str, hint: str = "") -> OddRequest:
    """A body with changed fields that is a 400 about `param`."""
    return OddRequest(
        _name(path, fields), path, _changed(path, fields), 400, param, hint or param.split("[")[0]
    )


def accepted(path: str, fields: dict[str, Any]) -> OddRequest:
    return OddRequest(_name(path, fields), path, _changed(path, fields))


def raw(
    name: str, body: bytes, status: int, param: str | None = None, hint: str = "", **more: Any
) -> OddRequest:
    """A body of bytes for a chat."""
    return OddRequest(name, more.pop("path", CHATS), body, status, param, hint, **more)


def _without(path: str, name: str) -> bytes:
    return json.dumps({key: value for key, value in BASE[path].items() if key != name}).encode()


def _messages(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def _schema(schema: Any) -> dict[str, Any]:
    described = {"name": "s", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


_GOOD = json.dumps(BASE[CHATS]).encode()
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_GZIP = JSON | {"Content-Encoding": "gzip"}

BODIES = [
    raw("no body", b"", 400, hint="JSON"),
    raw("white space", b" \n\t", 400, hint="JSON"),
    raw("truncated JSON", _GOOD[:-9], 400, hint="JSON"),
    raw("two JSON values", _GOOD + b"{}", 400, hint="JSON"),
    raw("a trailing comma", b'{"model": "tiny",}', 400, hint="JSON"),
    raw("single quotes", b"{'model': 'tiny'}", 400, hint="JSON"),
    raw("not UTF-8", b'{"model": "\xff\xfe"}', 400, hint="JSON"),
    raw("UTF-16", _GOOD.decode().encode("utf-16"), 400, hint="JSON"),
    raw("a lone surrogate", b'{"model": "tiny", "prompt": "\\ud800"}', 400, hint="JSON"),
    raw("NaN", b'{"model": "tiny", "temperature": NaN}', 400, hint="JSON"),
    raw("Infinity", b'{"model": "tiny", "temperature": Infinity}', 400, hint="JSON"),
    raw("a control character in text", b'{"model": "ti\x00ny"}', 400, hint="JSON"),
    raw("null", b"null", 400, hint="object"),
    raw("a list", b"[]", 400, hint="object"),
    raw("a number", b"5", 400, hint="object"),
    raw("an empty object", b"{}", 400, "model", "required"),
    raw("a duplicate key: the last one counts", _GOOD[:-1] + b', "max_tokens": 1}', 200),
    raw("100,000 brackets", b"[" * 100_000, 400, hint="nested"),
    raw("100,000 nested objects", b'{"a":' * 100_000, 400, hint="nested"),
    raw("a form", b"model=tiny&prompt=x", 400, hint="application/json", headers=_FORM),
    raw("multipart", b"--x\r\n\r\n", 400, hint="JSON", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    raw("JSON as text/plain", _GOOD, 200, headers={"Content-Type": "text/plain"}),
    raw("JSON as a form, as curl sends it", _GOOD, 200, headers=_FORM),
    raw("a broken content type", _GOOD, 200, headers={"Content-Type": ";;;"}),
    raw("gzip", gzip.compress(_GOOD), 200, headers=_GZIP),
    raw("deflate", zlib.compress(_GOOD), 200, headers=JSON | {"Content-Encoding": "deflate"}),
    raw("deflate without a header", zlib.compress(_GOOD)[2:-4], 200, headers=JSON | {"Content-Encoding": "deflate"}),
    raw("gzip of two members", gzip.compress(_GOOD[:9]) + gzip.compress(_GOOD[9:]), 200, headers=_GZIP),
    raw("gzip and garbage", gzip.compress(_GOOD) + b"x", 400, "Content-Encoding", headers=_GZIP),
    raw("nothing as gzip", b"", 400, hint="JSON", headers=_GZIP),
    raw("plain as gzip", _GOOD, 400, "Content-Encoding", "gzip", headers=_GZIP),
    raw("truncated gzip", gzip.compress(_GOOD)[:-12], 400, "Content-Encoding", headers=_GZIP),
    raw("a gzip bomb", gzip.compress(b" " * 200_000_000), 413, hint="8 MiB", headers=_GZIP),
    raw("brotli", _GOOD, 415, "Content-Encoding", "gzip", headers=JSON | {"Content-Encoding": "br"}),
    raw("9 MiB", b" " * (9 * 2**20), 413, hint="8 MiB"),
    raw("GET", b"", 405, hint="POST", method="GET"),
    raw("PATCH", b"{}", 405, hint="POST", method="PATCH"),
    raw("an unknown path", b"{}", 404, hint="/openapi.json", path="/v1/chat"),
    raw("a trailing slash", _GOOD, 404, path=CHATS + "/"),
    raw("an unknown model by path", b"", 404, "model", path="/v1/models/%00%20x", method="GET"),
    raw("a response that was not stored", b"", 404, "response_id", path=RESPONSES + "/resp_1", method="GET"),
    raw("an unknown priority", _GOOD, 400, "x-r1-priority", headers=JSON | {"x-r1-priority": "9"}),
]  # fmt: skip

CHAT_FIELDS = [
    raw("no messages", _without(CHATS, "messages"), 400, "messages", "required"),
    raw("no model", _without(CHATS, "model"), 400, "model", "required"),
    refused(CHATS, {"model": 5}, "model"),
    refused(CHATS, {"model": ""}, "model"),
    OddRequest("a long name", CHATS, _changed(CHATS, {"model": "x" * 10**6}), 404, "model", "served"),
    refused(CHATS, {"messages": {}}, "messages"),
    refused(CHATS, _messages(), "messages"),
    refused(CHATS, _messages(None), "messages[0]"),
    refused(CHATS, _messages(USER, {"content": "x"}), "messages[1].role"),
    refused(CHATS, _messages({"role": "god", "content": "x"}), "messages[0].role", "assistant"),
    refused(CHATS, _messages({"role": "user", "content": None}), "messages[0].content"),
    refused(CHATS, _messages({"role": "user", "content": 5}), "messages[0].content"),
    refused(CHATS, _messages({"role": "user", "content": {"text": "x"}}), "messages[0].content"),
    refused(CHATS, _messages({"role": "user", "content": [5]}), "messages[0].content"),
    refused(
        CHATS,
        _messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        "messages[0].content",
        "type text",
    ),
    accepted(CHATS, _messages({"role": "user", "content": []})),
    accepted(CHATS, _messages({"role": "user", "content": ""})),
    accepted(CHATS, _messages({"role": "user", "content": "x", "weight": 1, "id": "m1"})),
    accepted(CHATS, _messages({"role": "user", "content": "\u0000\uffff\U0010ffff\u202e"})),
    accepted(CHATS, _messages({"role": "assistant", "content": None, "tool_calls": [CALL]}, USER)),
    refused(CHATS, _messages({"role": "user", "content": "x", "name": 5}), "messages[0].name"),
    refused(CHATS, _messages({"role": "assistant", "tool_calls": [5]}), "messages[0].tool_calls[0]"),
    refused(CHATS, _messages({"role": "assistant", "tool_calls": {}}), "messages[0].tool_calls"),
    refused(CHATS, {"max_tokens": 0}, "max_tokens", "at least 1"),
    refused(CHATS, {"max_tokens": -5}, "max_tokens"),
    refused(CHATS, {"max_tokens": True}, "max_tokens", "whole number"),
    refused(CHATS, {"max_tokens": 1.5}, "max_tokens", "whole number"),
    refused(CHATS, {"max_tokens": "many"}, "max_tokens", "whole number"),
    refused(CHATS, {"max_tokens": 10**40}, "max_tokens"),
    refused(CHATS, {"max_tokens": [2]}, "max_tokens"),
    accepted(CHATS, {"max_tokens": 2**62, "stop": [" ", "a", "e", "i", "o", "\n", "."]}),
    accepted(CHATS, {"max_tokens": "2", "temperature": "0.5"}),
    accepted(CHATS, {"max_tokens": None, "max_completion_tokens": 1, "stop": None}),
    refused(CHATS, {"temperature": -1}, "temperature"),
    raw("1e400", _GOOD[:-1] + b', "temperature": 1e400}', 400, hint="JSON"),
    refused(CHATS, {"temperature": False}, "temperature"),
    refused(CHATS, {"temperature": [0]}, "temperature"),
    refused(CHATS, {"top_p": 0}, "top_p"),
    refused(CHATS, {"top_p": 1.01}, "top_p"),
    refused(CHATS, {"top_k": -2}, "top_k"),
    refused(CHATS, {"top_k": 2**40}, "top_k"),
    refused(CHATS, {"min_p": 2}, "min_p"),
    refused(CHATS, {"seed": 2**64}, "seed"),
    accepted(CHATS, {"seed": -(2**63)}),
    accepted(CHATS, {"seed": 2**63 - 1, "n": 2}),
    refused(CHATS, {"n": 0}, "n"),
    refused(CHATS, {"n": True}, "n"),
    refused(CHATS, {"n": 10**9}, "n", "at most"),
    refused(CHATS, {"n": 100}, "n", "at most"),
    refused(CHATS, {"best_of": 4}, "best_of", "not implemented"),
    refused(CHATS, {"presence_penalty": 3}, "presence_penalty"),
    refused(CHATS, {"frequency_penalty": "x"}, "frequency_penalty"),
    refused(CHATS, {"repetition_penalty": 0}, "repetition_penalty"),
    refused(CHATS, {"stop": ["x"] * 100}, "stop", "at most 16"),
    refused(CHATS, {"stop": ["x", 5]}, "stop"),
    refused(CHATS, {"stop": ""}, "stop"),
    refused(CHATS, {"stop": "x" * 10**6}, "stop", "characters"),
    refused(CHATS, {"stop_token_ids": [-1]}, "stop_token_ids[0]"),
    refused(CHATS, {"stop_token_ids": [10**6]}, "stop_token_ids", "token number"),
    refused(CHATS, {"stop_token_ids": [True]}, "stop_token_ids[0]"),
    refused(CHATS, {"stop_token_ids": [None]}, "stop_token_ids[0]"),
    refused(CHATS, {"min_tokens": 5}, "min_tokens", "max_tokens"),
    refused(CHATS, {"logit_bias": {"x": 1}}, "logit_bias"),
    refused(CHATS, {"logit_bias": {"999999": 1}}, "logit_bias", "token number"),
    refused(CHATS, {"logit_bias": {"5": 1000}}, "logit_bias", "-100"),
    refused(CHATS, {"logit_bias": {str(at): 1 for at in range(2000)}}, "logit_bias", "at most"),
    refused(CHATS, {"logprobs": 5}, "logprobs"),
    refused(CHATS, {"top_logprobs": 5}, "top_logprobs", "logprobs: true"),
    refused(CHATS, {"logprobs": True, "top_logprobs": 100}, "top_logprobs", "at most 20"),
    refused(CHATS, {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", "stream"),
    refused(CHATS, {"stream": "true"}, "stream"),
    refused(CHATS, {"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
    refused(CHATS, {"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "leave it out"),
    refused(CHATS, {"stream": True, "stream_options": []}, "stream_options"),
    refused(CHATS, {"tools": {}}, "tools"),
    refused(CHATS, {"tools": [{}]}, "tools[0]"),
    refused(CHATS, {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    refused(CHATS, {"tools": [TOOL] * 200}, "tools", "at most 128"),
    refused(CHATS, {"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice", "required"),
    refused(CHATS, {"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
    refused(CHATS, {"tool_choice": "required"}, "tool_choice", "needs tools"),
    refused(
        CHATS,
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "not in tools",
    ),
    accepted(CHATS, {"tools": [], "tool_choice": "none"}),
    refused(CHATS, {"response_format": "json"}, "response_format"),
    refused(CHATS, {"response_format": {"type": "xml"}}, "response_format.type"),
    refused(CHATS, {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    refused(CHATS, _schema({"type": "nothing"}), "response_format.json_schema"),
    refused(CHATS, _schema({"$ref": "#/$defs/none"}), "response_format.json_schema"),
    refused(CHATS, _schema({"$ref": "http://x.invalid/s"}), "response_format.json_schema"),
    refused(CHATS, _schema({"type": "string", "pattern": "(("}), "response_format.json_schema"),
    refused(CHATS, _schema({"type": "integer", "minimum": 5, "maximum": 4}), "response_format.json_schema"),
    refused(CHATS, _schema(nested(120)), "response_format", "nested"),
    refused(CHATS, {"guided_regex": "(" * 1000}, "guided_regex"),
    refused(CHATS, {"guided_grammar": "nonsense"}, "guided_grammar"),
    refused(CHATS, {"guided_choice": []}, "guided_choice"),
    refused(CHATS, {"guided_choice": ["a"], "guided_regex": "b"}, "guided_choice", "only one"),
    refused(CHATS, {"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs.regex"),
    refused(CHATS, {"structured_outputs": {"jsonn": {}}}, "structured_outputs.jsonn"),
    refused(CHATS, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    refused(CHATS, {"chat_template_kwargs": "x"}, "chat_template_kwargs"),
    accepted(CHATS, {"chat_template_kwargs": nested(95)} | _schema({"properties": nested(90)})),
    refused(CHATS, {"chat_template_kwargs": nested(200)}, "chat_template_kwargs", "nested"),
    refused(CHATS, {"thinking_token_budget": -1}, "thinking_token_budget"),
    refused(CHATS, {"reasoning_effort": "enormous"}, "reasoning_effort", "medium"),
    refused(CHATS, {"temprature": 1}, "temprature", "not a known parameter"),
    refused(CHATS, {"x" * 5000: 1}, "x" * 200),
    refused(CHATS, {"": 1}, "", "not a known parameter"),
    refused(CHATS, {"functions": [{"name": "f"}]}, "functions", "not implemented"),
    refused(CHATS, {"modalities": ["audio"]}, "modalities"),
    refused(CHATS, {"cache_salt": 5}, "cache_salt"),
    accepted(CHATS, {"user": 5, "metadata": {"a": [1]}, "service_tier": "auto", "store": False}),
    accepted(CHATS, {"model": "alias", "frequency_penalty": None, "logit_bias": {}}),
]  # fmt: skip

OTHER_FIELDS = [
    refused(TEXTS, {"prompt": []}, "prompt"),
    accepted(TEXTS, {"prompt": ""}),
    refused(TEXTS, {"prompt": [[]]}, "prompt"),
    refused(TEXTS, {"prompt": [1.5]}, "prompt"),
    refused(TEXTS, {"prompt": [True]}, "prompt"),
    refused(TEXTS, {"prompt": [-1]}, "prompt", "below 0"),
    refused(TEXTS, {"prompt": [10**9]}, "prompt", "token number"),
    refused(TEXTS, {"prompt": [2**70]}, "prompt"),
    refused(TEXTS, {"prompt": ["a", 5]}, "prompt"),
    refused(TEXTS, {"prompt": ["a"] * 3000}, "prompt", "at most 2048"),
    refused(TEXTS, {"prompt": ["a"] * 500}, "prompt", "at most"),
    refused(TEXTS, {"prompt": "a b " * 500_000}, "prompt", "longest"),
    refused(TEXTS, {"prompt": [5] * 100_000}, "prompt", "maximum"),
    refused(TEXTS, {"max_tokens": 0}, "max_tokens", "echo"),
    refused(TEXTS, {"logprobs": True}, "logprobs", "whole number"),
    refused(TEXTS, {"logprobs": -1}, "logprobs"),
    refused(TEXTS, {"logprobs": 21}, "logprobs"),
    refused(TEXTS, {"suffix": "x"}, "suffix", "not implemented"),
    refused(TEXTS, {"echo": 1}, "echo"),
    refused(TEXTS, {"messages": [USER]}, "messages", "not a known parameter"),
    accepted(TEXTS, {"suffix": "", "best_of": 1, "logprobs": None}),
    refused(RESPONSES, {"input": 5}, "input"),
    refused(RESPONSES, {"input": []}, "input"),
    refused(RESPONSES, {"input": [{"type": "function_call_output", "call_id": "1", "output": ""}]}, "input[0].call_id"),
    refused(RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id", "stored"),
    refused(RESPONSES, {"tools": [{"type": "web_search"}]}, "tools[0].type", "no tools"),
    refused(RESPONSES, {"tools": [TOOL]}, "tools[0].name"),
    refused(RESPONSES, {"max_tokens": 5}, "max_tokens"),
    refused(RESPONSES, {"metadata": nested(300)}, "metadata", "nested"),
    refused(RESPONSES, {"input": "a b " * 500_000}, "input", "longest"),
    refused(RESPONSES, {"text": {"format": {"type": "json_schema", "schema": {"type": 5}}}}, "text.format.schema"),
    accepted(RESPONSES, {"metadata": nested(95)}),
    accepted(RESPONSES, {"metadata": {"a": "b"}, "store": True, "include": []}),
    refused(EMBEDDINGS, {"input": ""}, "input"),
    refused(EMBEDDINGS, {"input": []}, "input"),
    refused(EMBEDDINGS, {"input": ["a", ""]}, "input"),
    refused(EMBEDDINGS, {"input": None}, "input", "required"),
    refused(EMBEDDINGS, {"encoding_format": "hex"}, "encoding_format", "base64"),
    refused(EMBEDDINGS, {"dimensions": 0}, "dimensions"),
    refused(EMBEDDINGS, {"dimensions": 10**6}, "dimensions", "at most"),
    refused(EMBEDDINGS, {"pooling": "max"}, "pooling"),
    refused(EMBEDDINGS, {"temperature": 1}, "temperature"),
    refused(EMBEDDINGS, {"input": [10**6]}, "input", "token number"),
    accepted(EMBEDDINGS, {"input": [[5, 6], "hello"], "user": "u", "encoding_format": "base64"}),
    refused(TOKENIZE, {"messages": [USER]}, "prompt", "not both"),
    refused(TOKENIZE, {"prompt": 5}, "prompt"),
    refused(TOKENIZE, {"prompt": None}, "prompt"),
    refused(TOKENIZE, {"add_special_tokens": 5}, "add_special_tokens"),
    OddRequest("tokenize: model", TOKENIZE, _changed(TOKENIZE, {"model": "x"}), 404, "model"),
    refused(DETOKENIZE, {"tokens": "5"}, "tokens"),
    refused(DETOKENIZE, {"tokens": [-1]}, "tokens[0]"),
    refused(DETOKENIZE, {"tokens": [10**6]}, "tokens", "token number"),
    refused(DETOKENIZE, {"tokens": [[5]]}, "tokens[0]"),
    accepted(DETOKENIZE, {"tokens": []}),
    raw("sleep", b"", 400, hint="--enable-sleep-mode", path="/sleep"),
    raw("sleep: level", b"", 400, "level", path="/sleep?level=9"),
    raw("wake up", b"{}", 400, hint="--enable-sleep-mode", path="/wake_up"),
]  # fmt: skip

ODD_REQUESTS = [*BODIES, *CHAT_FIELDS, *OTHER_FIELDS]
