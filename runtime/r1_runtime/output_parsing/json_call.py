"""One call in JSON: `{"name": "f", "arguments": {...}}`, read character by character.

The arguments are passed on as they are written. The key may be `arguments` or `parameters`; a text
value is decoded. Arguments before the name are buffered.
"""

from __future__ import annotations

import json

_ARGUMENTS = ("arguments", "parameters")


class JsonCall:
    """Reads one object.

    Attributes:
        raw: the text so far.
        name: the function, once it is known.
        done: whether the object is complete.
        failed: whether the text is not a call.
    """

    def __init__(self) -> None:
        self.raw = ""
        self.name: str | None = None
        self.done = False
        self.failed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._key: str | None = None  # the key of the current value at depth 1
        self._start: int | None = None  # first character of the current key or value at depth 1
        self._arguments: str | None = None  # text that `take` has not returned yet
        self._seen = False  # whether the object has arguments

    def push(self, text: str) -> str:
        """Add text; returns the part after the end of the object."""
        for at, character in enumerate(text):
            if self.done or self.failed:
                return text[at:]
            self.raw += character
            self._read(character)
        return ""

    def take(self) -> str:
        """New text of the arguments, once the name is known."""
        if self.name is None or self._arguments is None:
            return "{}" if self.done and self.name is not None and not self._closed() else ""
        text, self._arguments = self._arguments, ""
        return text

    def _closed(self) -> bool:
        closed, self._seen = self._seen, True
        return closed

    def _read(self, character: str) -> None:
        if self._streams():
            self._arguments = (self._arguments or "") + character
        if self._in_string:
            self._read_string(character)
        elif character == '"':
            self._in_string = True
            if self._depth == 1 and self._start is None:
                self._start = len(self.raw) - 1
        elif character in "{[":
            self._open(character)
        elif character in "}]":
            self._close(character)
        elif self._depth == 0:
            self.failed = not character.isspace()
        elif self._depth == 1:
            self._between(character)

    def _read_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False

    def _open(self, character: str) -> None:
        if self._depth == 0 and character == "[":
            self.failed = True
        if self._depth == 1:
            if self._key is None:
                self.failed = True
                return
            if self._start is None:
                self._start = len(self.raw) - 1
                if self._key in _ARGUMENTS:
                    self._arguments = (self._arguments or "") + character
                    self._seen = True
        self._depth += 1

    def _close(self, character: str) -> None:
        if self._depth == 1:
            if character == "]":
                self.failed = True
                return
            self._end_value(self.raw[:-1])
            self.done = not self.failed
            self.failed = self.failed or self.name is None
        self._depth -= 1

    def _between(self, character: str) -> None:
        """A character at depth 1 that is in no string and no bracket."""
        if character == ":" and self._key is None:
            key = self._decoded(self.raw[:-1])
            self._key = key if isinstance(key, str) else None
            self._start = None
            self.failed = self._key is None
        elif character == ",":
            self._end_value(self.raw[:-1])
        elif self._start is None and not character.isspace():
            self._start = len(self.raw) - 1

    def _end_value(self, text: str) -> None:
        if self._key is None:
            self.failed = self._start is not None
            return
        if self._key == "name":
            name = self._decoded(text)
            self.failed = not isinstance(name, str) or not name
            self.name = name if isinstance(name, str) else None
        elif self._key in _ARGUMENTS and not self._seen:
            value = self._decoded(text)
            self._seen = value is not None
            self._arguments = value if isinstance(value, str) else self._arguments
        self._key = self._start = None

    def _decoded(self, text: str) -> object:
        """The JSON value from `_start` to the end of `text`; None if there is none."""
        try:
            value: object = json.loads(text[self._start :]) if self._start is not None else None
        except ValueError:
            self.failed = True
            return None
        return value

    def _streams(self) -> bool:
        """Whether the next character is inside of an object of arguments."""
        return self._depth >= 2 and self._key in _ARGUMENTS
