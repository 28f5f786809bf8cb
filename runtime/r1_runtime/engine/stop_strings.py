"""The search for stop strings in a text that comes in pieces.

Per stop string the length of its longest beginning that ends the text is kept (Knuth, Morris and
Pratt 1977), so a character costs the same whatever the stop strings are.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Gives a text out up to the first stop string, and keeps back what may become one.

    Attributes:
        found: whether a stop string has come; nothing follows then.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._matchers = [_Matcher(text) for text in texts if text]
        self._pending = ""
        self.found = False

    def release(self, fresh: str) -> str:
        """Add text; returns what is certain to precede any stop string."""
        if self.found:
            return ""
        text = self._pending + fresh
        complete = [matcher.feed(fresh) for matcher in self._matchers]  # all must see the text
        if any(complete):
            self.found = True
            self._pending = ""
            starts = [text.find(matcher.text) for matcher in self._matchers]
            return text[: min(start for start in starts if start >= 0)]
        keep = max((matcher.matched for matcher in self._matchers), default=0)
        cut = len(text) - keep
        self._pending = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was kept back, when no more text comes."""
        rest, self._pending = self._pending, ""
        return rest


class _Matcher:
    """Attributes: `text` is searched for; its first `matched` characters end what was fed."""

    __slots__ = ("_borders", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        # _borders[n]: the longest proper beginning of text[:n] that also ends it. Grows on demand.
        self._borders = [0, 0]

    def feed(self, fresh: str) -> bool:
        """Whether the stop string is complete now."""
        for character in fresh:
            while self.matched and self.text[self.matched] != character:
                self.matched = self._border(self.matched)
            if self.text[self.matched] == character:
                self.matched += 1
                if self.matched == len(self.text):
                    return True
        return False

    def _border(self, length: int) -> int:
        while len(self._borders) <= length:
            end = len(self._borders)
            border = self._borders[end - 1]
            while border and self.text[border] != self.text[end - 1]:
                border = self._borders[border]
            self._borders.append(border + (self.text[border] == self.text[end - 1]))
        return self._borders[length]
