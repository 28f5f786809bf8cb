"""Text out of tokens, as they come.

Two things keep text back for a moment. A character may span several byte tokens, so an unfinished
one (which decodes to U+FFFD) waits for the rest. And the end of the text may be the beginning of a
stop string, so as much of it waits as could still become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
_CONTEXT = 4  # prompt tokens that stay in the first window


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
        self._tokens = list(prompt[-_CONTEXT:])
        # Only a window of the tokens is decoded each time: it begins one whole piece back,
        # because a decoder may treat the first token of a text specially.
        self._start = 0
        self._done = len(self._tokens)
        self._given = len(decode(self._tokens)) if self._tokens else 0  # characters of the window
        self._stop = tuple(text for text in stop if text)
        self._pending = ""
        self.stopped = False

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens; returns the text that is certain now. Sets `stopped` at a stop string."""
        if self.stopped:
            return ""
        self._tokens += tokens
        text = self._decode(self._tokens[self._start :])
        # An unfinished character is one U+FFFD at the end; it becomes itself or stays broken.
        unfinished = text.endswith(_REPLACEMENT)
        stable = text[:-1] if unfinished else text
        fresh = stable[self._given :]
        self._given = len(stable)
        if not unfinished:
            self._start, self._done = self._done, len(self._tokens)
            self._given = len(self._decode(self._tokens[self._start :]))
        return self._release(fresh, last=False)

    def flush(self) -> str:
        """The rest, when no more tokens come; half a character comes out as U+FFFD."""
        if self.stopped:
            return ""
        text = self._decode(self._tokens[self._start :])
        fresh, self._given = text[self._given :], len(text)
        return self._release(fresh, last=True)

    def _release(self, fresh: str, *, last: bool) -> str:
        text = self._pending + fresh
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            self._pending = ""
            return text[: min(found)]
        keep = 0 if last else self._possible_stop(text)
        cut = len(text) - keep
        self._pending = text[cut:]
        return text[:cut]

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of `text` that begins some stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
