"""Tool calls in the formats of Qwen (hermes), DeepSeek and Llama, read incrementally.

Text outside of calls is content. A call that cannot be read is content too, as long as no part of it
was passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r1_runtime.output_parsing.delta import Delta, OutputParser, ToolCallDelta
from r1_runtime.output_parsing.json_call import JsonCall
from r1_runtime.output_parsing.markers import MarkerBuffer
from r1_runtime.output_parsing.pythonic import PythonicCalls

_CALLS_BEGIN, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL_BEGIN, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_PYTHON_TAG = "<|python_tag|>"


class _CallReader:
    """Passes on one call after another."""

    def __init__(self) -> None:
        self.index = -1
        self.call = JsonCall()
        self._named = False

    def next(self) -> None:
        self.call = JsonCall()
        self._named = False

    def push(self, text: str) -> tuple[Delta, str]:
        """The delta of more text, and the text after the end of the call."""
        rest = self.call.push(text)
        return self._take(), rest

    @property
    def unread(self) -> str:
        """The text of a call that was not passed on."""
        return "" if self._named else self.call.raw

    def _take(self) -> Delta:
        if self.call.name is None or (self.call.failed and not self._named):
            return Delta()
        name = None
        if not self._named:
            self._named = True
            self.index += 1
            name = self.call.name
        arguments = self.call.take()
        if name is None and not arguments:
            return Delta()
        return Delta(calls=(ToolCallDelta(self.index, name, arguments),))


class HermesCalls:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, any number of times."""

    _BEGIN, _END = "<tool_call>", "</tool_call>"

    def __init__(self) -> None:
        self._buffer = MarkerBuffer()
        self._reader = _CallReader()
        self._inside = False
        self._raw = ""  # text of the current call
        self._space = ""  # white space that is content only if further content follows
        self._called = False

    def push(self, text: str) -> Delta:
        self._buffer.push(text)
        delta = Delta()
        while self._buffer.text:
            before, marker = self._buffer.take(self._END if self._inside else self._BEGIN)
            delta += self._call(before) if self._inside else self._content(before)
            if marker is None:
                break
            if self._inside:
                delta += self._end(marker)
            else:
                self._reader.next()
                self._raw = ""
            self._inside = not self._inside
            self._called = True
        return delta

    def finish(self) -> Delta:
        rest = self._buffer.take_all()
        if not self._inside:
            delta = self._content(rest)
            return delta if self._called else delta + Delta(self._space)
        delta = self._call(rest)
        return delta + self._end("")

    def _call(self, text: str) -> Delta:
        self._raw += text
        return self._reader.push(text)[0]

    def _end(self, marker: str) -> Delta:
        """The end of a call: one that was not read is content."""
        if not self._raw.strip() or not self._reader.unread:
            return Delta()
        return self._content(self._BEGIN + self._raw + marker)

    def _content(self, text: str) -> Delta:
        """Content, without the white space that separates calls."""
        text = self._space + text
        shown = text.rstrip() if not self._called or text.strip() else ""
        self._space = text[len(shown) :]
        return Delta(shown)


class DeepSeekCalls:
    """Calls of DeepSeek-V3 and R1 (`function`, name, JSON in a code fence) and of V3.1 (name, JSON)."""

    _FENCE = "\n```"

    def __init__(self) -> None:
        self._buffer = MarkerBuffer()
        self._step: Callable[[], tuple[Delta, bool]] = self._content
        self._index = -1
        self._head = ""
        self._space = ""

    def push(self, text: str) -> Delta:
        self._buffer.push(text)
        delta, more = Delta(), True
        while more:
            found, more = self._step()
            delta += found
        return delta

    def finish(self) -> Delta:
        if self._step == self._content:
            return Delta(self._space + self._buffer.take_all())
        if self._step == self._arguments:
            return self._part(self._buffer.take_all())
        return Delta()

    def _content(self) -> tuple[Delta, bool]:
        text, marker = self._buffer.take(_CALLS_BEGIN)
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if marker is not None:
            self._step = self._between
        return Delta(shown), marker is not None

    def _between(self) -> tuple[Delta, bool]:
        """Between calls; text there has no meaning."""
        _, marker = self._buffer.take(_CALL_BEGIN, _CALLS_END)
        if marker == _CALL_BEGIN:
            self._head = ""
            self._step = self._header
        return Delta(), marker is not None

    def _header(self) -> tuple[Delta, bool]:
        """The kind or the name, up to the separator."""
        text, marker = self._buffer.take(_SEPARATOR, _CALL_END)
        self._head += text
        if marker is None:
            return Delta(), False
        if marker == _CALL_END:
            self._step = self._between
        elif self._head.strip() == "function":
            self._head = ""
            self._step = self._fenced_name
        else:
            return self._begin(self._head), True
        return Delta(), True

    def _fenced_name(self) -> tuple[Delta, bool]:
        """The name, a line break, and the beginning of a code fence."""
        text, marker = self._buffer.take("```json\n", "```\n", _CALL_END)
        self._head += text
        if marker is None:
            return Delta(), False
        if marker == _CALL_END:
            self._step = self._between
            return Delta(), True
        return self._begin(self._head), True

    def _begin(self, name: str) -> Delta:
        self._index += 1
        self._step = self._arguments
        return Delta(calls=(ToolCallDelta(self._index, name.strip()),))

    def _arguments(self) -> tuple[Delta, bool]:
        text, marker = self._buffer.take(self._FENCE, _CALL_END)
        if marker is not None:
            self._step = self._between
        return self._part(text), marker is not None

    def _part(self, text: str) -> Delta:
        return Delta(calls=(ToolCallDelta(self._index, None, text),)) if text else Delta()


class LlamaCalls:
    """`{"name": ..., "parameters": {...}}`, alone or separated by `;`, after an optional tag.

    The whole output is calls, or none of it: the first character decides.
    """

    def __init__(self) -> None:
        self._reader = _CallReader()
        self._text = ""
        self._state = "start"

    def push(self, text: str) -> Delta:
        self._text += text
        delta = Delta()
        while self._text:
            before = self._state
            delta += getattr(self, f"_{before}")()
            if self._state == before:
                break
        return delta

    def finish(self) -> Delta:
        rest, self._text = self._text, ""
        if self._state == "call":
            return Delta(self._reader.unread + rest) if not self._reader.call.done else Delta()
        return Delta(rest) if self._state in ("start", "content") else Delta()

    def _start(self) -> Delta:
        text = self._text.lstrip()
        if text.startswith(_PYTHON_TAG):
            self._text = text[len(_PYTHON_TAG) :].lstrip()
            self._state = "between"
        elif text.startswith("{"):
            self._text = text
            self._state = "call"
        elif not _PYTHON_TAG.startswith(text):
            self._state = "content"
        return Delta()

    def _between(self) -> Delta:
        self._text = self._text.lstrip(" \t\r\n;,")
        if self._text:
            self._state = "call" if self._text[0] == "{" else "content"
            self._reader.next()
        return Delta()

    def _call(self) -> Delta:
        delta, self._text = self._reader.push(self._text)
        if self._reader.call.failed:
            self._text = self._reader.unread + self._text
            self._state = "content"
        elif self._reader.call.done:
            self._state = "between"
        return delta

    def _content(self) -> Delta:
        text, self._text = self._text, ""
        return Delta(text)


class ListedCalls:
    """A JSON list of calls, which a grammar enforces for `tool_choice: required`."""

    def __init__(self) -> None:
        self._reader = _CallReader()
        self._inside = False

    def push(self, text: str) -> Delta:
        delta = Delta()
        while text:
            if not self._inside:
                text = text.lstrip(" \t\r\n[,]")
                self._inside = bool(text)
                self._reader.next()
            else:
                found, text = self._reader.push(text)
                delta += found
                self._inside = not self._reader.call.done
                if self._reader.call.failed:
                    break
        return delta

    def finish(self) -> Delta:
        return Delta()


class NamedCall:
    """The arguments of one given function, which a grammar enforces."""

    def __init__(self, name: str) -> None:
        self._name: str | None = name

    def push(self, text: str) -> Delta:
        name, self._name = self._name, None
        return Delta(calls=(ToolCallDelta(0, name, text),)) if text or name else Delta()

    def finish(self) -> Delta:
        return self.push("") if self._name else Delta()


PARSERS: Mapping[str, Callable[[], OutputParser]] = {
    "deepseek_v3": DeepSeekCalls,
    "deepseek_v31": DeepSeekCalls,
    "hermes": HermesCalls,
    "llama3_json": LlamaCalls,
    "pythonic": PythonicCalls,
}


def parser_of_template(template: str) -> str | None:
    """The name of the parser for the calls that a chat template writes, if it writes any."""
    if _CALLS_BEGIN in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    if "<tool_call>" in template and "<function=" not in template:
        return "hermes"
    if _PYTHON_TAG in template or '"parameters"' in template:
        return "llama3_json"
    return None
