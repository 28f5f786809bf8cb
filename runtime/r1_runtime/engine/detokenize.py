"""Text out of tokens, as they come.

Two things keep text back for a moment. A character may span several byte tokens, so an unfinished
one (which decodes to U+FFFD) waits for the rest. And the end of the text may be the beginning of a
stop string, so as much of it waits as could still become one.

Each token costs a bounded number of decoded tokens, whatever the text: only a window is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from r1_runtime.engine.stop_strings import StopStrings

_REPLACEMENT = "\ufffd"
_CONTEXT = 4  # prompt tokens that stay in the first window
_UNFINISHED = 3  # bytes of an unfinished character; a decoder writes U+FFFD for it or for each
_WINDOW = 12  # tokens of unfinished text before the window is cut
_LONGEST_WINDOW = 4 * _WINDOW  # where no place to cut is found


class Detokenizer:
    """Turns one request's output tokens into text pieces.

    Args:
        decode: token numbers to text, special tokens left out.
        prompt: the prompt's last tokens; a decoder may join across the border.
        stop: texts that end the output.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        prompt: Sequence[int] = (),
        stop: Sequence[str] = (),
    ) -> None:
        self._decode = decode
        # Only a window of the tokens is decoded each time: it begins one whole piece back,
        # because a decoder may treat the first token of a text specially.
        self._window = list(prompt[-_CONTEXT:])
        self._done = len(self._window)  # tokens of the window whose text is complete
        self._given = len(decode(self._window)) if self._window else 0  # characters of the window
        self._stops = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether the text has ended at a stop string."""
        return self._stops.found

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens; returns the text that is certain now. Sets `stopped` at a stop string."""
        if self.stopped:
            return ""
        self._window += tokens
        text = self._decode(self._window)
        tail = text[-_UNFINISHED:]
        unfinished = len(tail) - len(tail.rstrip(_REPLACEMENT))
        stable = max(len(text) - unfinished, self._given)
        fresh, self._given = text[self._given : stable], stable
        if not unfinished:
            del self._window[: self._done]
            self._done = len(self._window)
            self._given = len(self._decode(self._window))
        elif not self._decode(tokens):
            # Tokens without text, such as special ones: they would keep the window growing.
            del self._window[len(self._window) - len(tokens) :]
        elif len(self._window) - self._done > _WINDOW:
            fresh += self._shorten(text)
        return self._stops.release(fresh)

    def flush(self) -> str:
        """The rest, when no more tokens come; half a character comes out as U+FFFD."""
        if self.stopped:
            return ""
        text = self._decode(self._window)
        fresh, self._given = text[self._given :], len(text)
        return self._stops.release(fresh) + self._stops.flush()

    def _shorten(self, text: str) -> str:
        """Drop the beginning of a window whose text goes on ending in U+FFFD.

        Between two tokens the text may be cut where both parts together decode to the whole: inside
        a character each part has a U+FFFD of its own. Such a place is among the last few tokens.

        Returns:
            The text of the dropped tokens that was not given out yet.
        """
        size = len(self._window)
        for start in range(size - 1, max(0, size - _WINDOW), -1):
            head, tail = self._decode(self._window[:start]), self._decode(self._window[start:])
            if tail and head + tail == text:
                late = head[self._given :]
                self._given = max(0, self._given - len(head))
                del self._window[:start]
                self._done = 0
                return late
        if size < _LONGEST_WINDOW:
            return ""
        # A decoder without such a place: the text so far counts as finished.
        late = text[self._given :]
        del self._window[:-_CONTEXT]
        self._done, self._given = len(self._window), len(self._decode(self._window))
        return late
