"""Search for markers in a stream of text."""

from __future__ import annotations


class MarkerBuffer:
    """Text that waits until it is known whether it begins a marker."""

    def __init__(self) -> None:
        self.text = ""

    def push(self, text: str) -> None:
        self.text += text

    def take(self, *markers: str) -> tuple[str, str | None]:
        """Remove and return the text before the first marker, and the marker.

        Without a marker in the buffer, the end of it that may begin one stays, and the marker is
        None.
        """
        found = [(at, -len(one), one) for one in markers if (at := self.text.find(one)) >= 0]
        # Text that may still become an earlier marker cannot exist: it would be found earlier.
        if found:
            at, _, marker = min(found)
            before, self.text = self.text[:at], self.text[at + len(marker) :]
            return before, marker
        keep = max(_border(self.text, one) for one in markers)
        cut = len(self.text) - keep
        before, self.text = self.text[:cut], self.text[cut:]
        return before, None

    def take_all(self) -> str:
        text, self.text = self.text, ""
        return text


def _border(text: str, marker: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `marker`."""
    for size in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:size]):
            return size
    return 0
