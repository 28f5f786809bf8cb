"""First token and token counts of a relayed response.

Engines begin a stream before the first token: with a role chunk, an empty ``content`` or comments.
The first token is the first event in which a choice carries text, reasoning or a tool call.  Until
then each event is parsed; after it, a packet costs a search for ``"completion_tokens"`` and a count
of line starts.

A packet may end anywhere, also inside the ``usage``: the bytes after the last line end are prepended
to the next packet.  The reader gets the body without its transfer coding.
"""

from __future__ import annotations

import re

import orjson

USAGE = b'"completion_tokens"'
PROMPT = b'"prompt_tokens"'
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})')
_BOTH_TOKENS = re.compile(
    rb'"prompt_tokens"\s*:\s*(\d{1,9})[^{}]{0,64}?"completion_tokens"\s*:\s*(\d{1,9})'
)
NEAR_BYTES = 1 << 8
"""The counts of a ``usage`` lie within this many bytes of each other."""
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')
LINE_BYTES = 1 << 16
"""A longer line is not buffered whole.  It counts as a token: no other event is that long."""
_TEXTS = ("content", "reasoning_content", "reasoning", "tool_calls", "function_call", "refusal")


class StreamReader:
    """Reads one event stream; of a response without streaming, only the ``usage``."""

    __slots__ = ("_rest", "_usage", "error", "events", "first_token", "is_event_stream")

    def __init__(self, *, is_event_stream: bool) -> None:
        self.is_event_stream = is_event_stream
        self.first_token = False
        """Whether an event carried a token."""
        self.error = False
        """Whether the engine reported an error before any token."""
        self.events = 0
        """Events from the first token on, the end mark included."""
        self._rest = b""
        self._usage = b""

    def feed(self, data: bytes) -> bool:
        """Read the next bytes of the body; True when the first token is among them."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if USAGE in data:
            self._usage = data
        if not data.endswith(b"\n"):
            data = self._keep_rest(data)
        if self.first_token:
            self.events += data.count(b"\ndata:") + data.startswith(b"data:")
            return False
        return self.is_event_stream and self._find_token(data)

    def _keep_rest(self, data: bytes) -> bytes:
        """Keep the bytes after the last line end for the next packet; return those before it."""
        end = data.rfind(b"\n") + 1
        if len(data) - end <= LINE_BYTES:
            self._rest = data[end:]
            return data[:end]
        end = len(data) - 2 * len(USAGE)  # the counts may be cut in two here
        self._rest = data[end:]
        return data[:end]

    def _find_token(self, data: bytes) -> bool:
        for line in data.splitlines(keepends=True):
            if self.first_token:
                self.events += line.startswith(b"data:")
            elif line.startswith(b"error:"):  # llama.cpp
                self.error = True
            elif line.startswith(b"data:"):
                self.error = self.error or _is_error(line[5:])
                if len(line) > LINE_BYTES or carries_token(line[5:]):
                    self.first_token = True
                    self.events = 1
        return self.first_token

    def completion_tokens(self) -> int | None:
        """Tokens by the engine's last ``usage``; None without one."""
        counts = _COMPLETION_TOKENS.findall(self._usage + self._rest)
        return int(counts[-1]) if counts else None

    def prompt_tokens(self) -> int | None:
        """Tokens of the prompt by the engine's last ``usage``; None without one."""
        counts = _PROMPT_TOKENS.findall(self._usage + self._rest)
        return int(counts[-1]) if counts else None


def carries_token(event: bytes) -> bool:
    """Whether a choice of the event carries text, reasoning or a tool call."""
    try:
        document = orjson.loads(event)
    except orjson.JSONDecodeError:  # [DONE], or not an event of this API
        return False
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return False
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        if choice.get("text"):
            return True
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS):
            return True
    return False


def _is_error(event: bytes) -> bool:
    """Whether the event reports an error: ``{"error": ...}`` or ``{"object": "error"}``."""
    if b'"error"' not in event:
        return False
    try:
        document = orjson.loads(event)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and bool(
        document.get("error") or document.get("object") == "error"
    )


def plain_usage(body: bytes) -> tuple[int | None, int | None]:
    """Prompt and completion tokens by the ``usage`` of a whole response without streaming."""
    at = body.rfind(USAGE)
    if at < 0:
        return None, None
    begin = body.find(PROMPT, max(at - NEAR_BYTES, 0), at)
    if begin >= 0 and (both := _BOTH_TOKENS.match(body, begin)) is not None:  # the usual order
        return int(both[1]), int(both[2])
    count = _COMPLETION_TOKENS.match(body, at)
    if count is None:
        return None, None
    prompt = _PROMPT_TOKENS.search(body, max(at - NEAR_BYTES, 0), at + NEAR_BYTES)
    return (None if prompt is None else int(prompt[1])), int(count[1])


def event_after(sent: bytes, event: bytes) -> bytes:
    """``event`` as a separate event after ``sent``, which may end inside another one."""
    return event if not sent or sent.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n" + event
