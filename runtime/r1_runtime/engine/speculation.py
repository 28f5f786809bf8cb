"""Speculative decoding: draft tokens that one step verifies.

A chunk may carry draft tokens after the sequence's own. The model computes them in the same step and
samples a token after the sequence's last token and after each draft. A draft is accepted when the model
sampled the same token at its place, and all drafts before it are accepted. So the output has the tokens
that single steps would sample, and each step adds at least one. Cache entries of rejected drafts are
overwritten by the next step.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Tokens

from r1_runtime.engine.sequence import Sequence

Drafter = Callable[[Sequence, int], Tokens[int]]
"""Proposes up to the given number of tokens after a sequence's tokens."""

_LONGEST_SUFFIX, _SHORTEST_SUFFIX = 4, 2
_SEARCHED_TOKENS = 8192


def may_draft(sequence: Sequence) -> bool:
    """Whether all rows of a step can be sampled as single steps would sample them.

    The rows share the sequence's sampling state, so what changes with each token excludes drafts:
    a constraint, penalties, and end tokens that `min_tokens` still excludes. Log-probabilities are
    left out because a draft saves little beside them.
    """
    params = sequence.params
    return (
        sequence.constraint is None
        and sequence.pooling is None
        and params.logprobs is None
        and params.repetition_penalty == 1
        and not (params.presence_penalty or params.frequency_penalty)
        and sequence.generated >= params.min_tokens
    )


def accepted_length(drafts: Tokens[int], sampled: Tokens[int | None]) -> int:
    """Number of leading drafts that the model sampled as well.

    Args:
        drafts: the k draft tokens of a chunk.
        sampled: the k + 1 tokens sampled after the sequence's last token and after each draft.
    """
    count = 0
    for draft, token in zip(drafts, sampled, strict=False):
        if draft != token:
            break
        count += 1
    return count


def ngram_draft(tokens: Tokens[int], most: int) -> list[int]:
    """Tokens that followed the last earlier occurrence of the sequence's end (prompt lookup).

    The longest of the last 4, 3 or 2 tokens that occurs earlier is used. The last 8,192 tokens are
    searched.

    Args:
        tokens: prompt and generated tokens, each below 2**63.
        most: tokens to propose at most.

    Returns:
        0 to `most` tokens; none without an earlier occurrence.
    """
    recent = tokens[-_SEARCHED_TOKENS:]
    if most < 1:
        return []
    data = array("q", recent)
    text, width = data.tobytes(), data.itemsize
    for size in range(_LONGEST_SUFFIX, _SHORTEST_SUFFIX - 1, -1):
        suffix = data[-size:].tobytes()
        # An occurrence ends before the last token, so at least one token follows it.
        at = text.rfind(suffix, 0, len(text) - width)
        while at % width and at > 0:  # between two tokens
            at = text.rfind(suffix, 0, at + len(suffix) - 1)
        if at >= 0 and at % width == 0 and len(suffix) == size * width:
            follows = at // width + size
            return list(recent[follows : follows + most])
    return []


def lookup_drafter(sequence: Sequence, most: int) -> list[int]:
    """`ngram_draft` of a sequence, as a `Drafter`."""
    return ngram_draft(sequence.tokens, most)
