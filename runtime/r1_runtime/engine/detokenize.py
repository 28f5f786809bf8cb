"""Incremental detokenisation.

Text is buffered in two cases. A character may span several byte tokens: an incomplete one decodes to
U+FFFD and waits for the rest. The end of the text may be the beginning of a stop string.

Only a window of the tokens is decoded, so the cost per token is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from r1_runtime.engine.stop_strings import StopStrings

_REPLACEMENT = "\ufffd"
_CONTEXT = 4  # prompt tokens that stay in the first window
_UNFINISHED = 3  # bytes of an incomplete character; a decoder emits U+FFFD for all or for each
_WINDOW = 12  # tokens of incomplete text before the window is shortened
_LONGEST_WINDOW = 4 * _WINDOW  # limit where no place to cut exists


class Detokenizer:
    """Converts one request's output tokens to text.

    Args:
        decode: converts token numbers to text, without special tokens.
        prompt: the prompt's last tokens; a decoder may join characters across the border.
        stop: stop strings.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        prompt: Sequence[int] = (),
        stop: Sequence[str] = (),
    ) -> None:
        self._decode = decode
        # The window begins before the last complete text, because a decoder may treat the first
        # token of a text specially.
        self._window = list(prompt[-_CONTEXT:])
        self._complete = len(self._window)  # tokens of the window whose text is complete
        self._emitted = len(decode(self._window)) if self._window else 0  # characters of the window
        self._has_context = self._emitted > 0  # whether the complete tokens have text
        self._cut_at = _WINDOW  # tokens of incomplete text before the next search for a cut
        self._stops = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._stops.found

    def push(self, tokens: Sequence[int], *, stops: bool = True) -> str:
        """Add tokens; returns the new complete text. A stop string sets `stopped`.

        Without `stops`, no stop string is searched for in this text.
        """
        if self.stopped:
            return ""
        self._window += tokens
        text = self._decode(self._window)
        tail = text[-_UNFINISHED:]
        unfinished = len(tail) - len(tail.rstrip(_REPLACEMENT))
        stable = max(len(text) - unfinished, self._emitted)
        fresh, self._emitted = text[self._emitted : stable], stable
        if not unfinished and not fresh and self._has_context:
            # Tokens without text: the tokens before them stay the context of the next ones.
            del self._window[len(self._window) - len(tokens) :]
        elif not unfinished:
            self._cut_at = _WINDOW
            self._has_context = bool(fresh)
            del self._window[: self._complete]
            self._complete = len(self._window)
            self._emitted = len(self._decode(self._window))
        elif not self._decode(tokens):
            # Tokens without text, such as special tokens, would let the window grow.
            del self._window[len(self._window) - len(tokens) :]
        elif len(self._window) - self._complete > self._cut_at:
            fresh += self._shorten(text)
        return self._stops.release(fresh) if stops else fresh

    def flush(self) -> str:
        """The buffered text at the end of the output; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._decode(self._window)
        fresh, self._emitted = text[self._emitted :], len(text)
        return self._stops.release(fresh) + self._stops.flush()

    def _shorten(self, text: str) -> str:
        """Drop the beginning of a window whose text continues to end in U+FFFD.

        The window may be cut between two tokens where both parts together decode to the whole text:
        inside a character, each part has its own U+FFFD. Such a place is among the last few tokens.

        Returns:
            The text of the dropped tokens that was not emitted yet.
        """
        size = len(self._window)
        for start in range(size - 1, max(0, size - _WINDOW), -1):
            head, tail = self._decode(self._window[:start]), self._decode(self._window[start:])
            if tail and head + tail == text:
                late = head[self._emitted :]
                self._emitted = max(0, self._emitted - len(head))
                del self._window[:start]
                self._complete = 0
                self._cut_at = _WINDOW
                return late
        if size < _LONGEST_WINDOW:
            self._cut_at *= 2  # rarely, because each search decodes the window a dozen times
            return ""
        self._cut_at = _WINDOW
        # A decoder without such a place: the text so far counts as complete.
        late = text[self._emitted :]
        del self._window[:-_CONTEXT]
        self._complete, self._emitted = len(self._window), len(self._decode(self._window))
        return late
