"""Token usage of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_runtime.engine.messages import Output


class UsageCounter:
    """Counts the tokens of all outputs of a request.

    Args:
        prompt_lengths: tokens of the prompt of each output; `n` outputs share a prompt.
        n: outputs per prompt.
        counts_output: false for an echo without output.
    """

    def __init__(
        self, prompt_lengths: Sequence[int], n: int, *, counts_output: bool = True
    ) -> None:
        self._prompt_tokens = sum(prompt_lengths[::n])
        self._n = n
        self._generated = [0] * len(prompt_lengths)
        self._cached = [0] * len(prompt_lengths)
        self._counts_output = counts_output

    def add(self, index: int, output: Output) -> None:
        """Add the newest output of choice `index`."""
        if self._counts_output:
            self._generated[index] = output.generated
        self._cached[index] = output.cached_tokens

    @property
    def prompt_tokens(self) -> int:
        return self._prompt_tokens

    @property
    def completion_tokens(self) -> int:
        return sum(self._generated)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from the cache; of outputs that share a prompt the first one counts."""
        return sum(self._cached[:: self._n])

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self._prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
