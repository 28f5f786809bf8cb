"""Text out of tokens, as they come.

Two things keep text back for a moment. A character may span several byte tokens, so an unfinished
one (which decodes to U+FFFD) waits for the rest. And the end of the text may be the beginning of a
stop string, so as much of it waits as could still become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
# A UTF-8 character has at most four bytes; more unfinished tokens than that are truly broken.
_LONGEST_CHARACTER = 4


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
        self._tokens = list(prompt[-_LONGEST_CHARACTER:])
        self._start = 0  # where the decoded window begins
        self._done = len(self._tokens)  # tokens whose text has been given out
        self._stop = tuple(text for text in stop if text)
        self._pending = ""
        self.stopped = False

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens; returns the text that is certain now. Sets `stopped` at a stop string."""
        if self.stopped:
            return ""
        self._tokens += tokens
        before = self._decode(self._tokens[self._start : self._done])
        after = self._decode(self._tokens[self._start :])
        unfinished = after.endswith(_REPLACEMENT)
        if unfinished and len(self._tokens) - self._done < _LONGEST_CHARACTER:
            return ""
        self._start, self._done = self._done, len(self._tokens)
        return self._release(after[len(before) :], last=False)

    def flush(self) -> str:
        """The rest, when no more tokens come; half a character comes out as U+FFFD."""
        if self.stopped:
            return ""
        before = self._decode(self._tokens[self._start : self._done])
        after = self._decode(self._tokens[self._start :])
        self._start = self._done = len(self._tokens)
        return self._release(after[len(before) :], last=True)

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
