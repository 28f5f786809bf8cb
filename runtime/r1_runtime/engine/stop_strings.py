"""Search for stop strings in a stream of text.

The state per stop string is the length of its longest prefix that ends the text (Knuth, Morris and
Pratt 1977), so the cost per character does not depend on the stop strings.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes a text up to the first stop string, and buffers a possible beginning of one.

    Attributes:
        found: whether a stop string was found; no text follows it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._matchers = [_Matcher(text) for text in texts if text]
        self._pending = ""
        self.found = False

    def release(self, fresh: str) -> str:
        """Add text; returns the text that no stop string can include any more."""
        if self.found:
            return ""
        text = self._pending + fresh
        complete = [
            matcher.feed(fresh) for matcher in self._matchers
        ]  # every matcher needs the text
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
        """The buffered text, at the end of the output."""
        rest, self._pending = self._pending, ""
        return rest


class _Matcher:
    """State of one stop string: the first `matched` characters of `text` end the input so far."""

    __slots__ = ("_borders", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        # _borders[n]: length of the longest proper prefix of text[:n] that is also a suffix. Computed
        # on demand.
        self._borders = [0, 0]

    def feed(self, fresh: str) -> bool:
        """Add text; returns whether the stop string is complete."""
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
