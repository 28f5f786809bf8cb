"""Token usage of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_runtime.engine.messages import Output
from r1_runtime.output_parsing.reasoning_tokens import ReasoningTokens


class UsageCounter:
    """Counts the tokens of all outputs of a request.

    Args:
        prompt_lengths: tokens of the prompt of each output; `n` outputs share a prompt.
        n: outputs per prompt.
        counts_output: false for an echo without output.
        reasoning: counter of each output; empty for a model without reasoning.
    """

    def __init__(
        self,
        prompt_lengths: Sequence[int],
        n: int,
        *,
        counts_output: bool = True,
        reasoning: Sequence[ReasoningTokens] = (),
    ) -> None:
        self._prompt_tokens = sum(prompt_lengths[::n])
        self._n = n
        self._generated = [0] * len(prompt_lengths)
        self._cached = [0] * len(prompt_lengths)
        self._counts_output = counts_output
        self._reasoning = reasoning

    def add(self, index: int, output: Output) -> None:
        """Add the newest output of choice `index`."""
        if self._counts_output:
            self._generated[index] = output.generated
        self._cached[index] = output.cached_tokens
        if self._reasoning:
            self._reasoning[index].add(output.token_ids)

    @property
    def prompt_tokens(self) -> int:
        return self._prompt_tokens

    @property
    def completion_tokens(self) -> int:
        return sum(self._generated)

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens that are reasoning."""
        return sum(one.count for one in self._reasoning)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from the cache; of outputs that share a prompt the first one counts."""
        return sum(self._cached[:: self._n])

    def as_json(self) -> dict[str, Any]:
        usage = {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self._prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        if not self._reasoning:
            return usage
        return usage | {"completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens}}
