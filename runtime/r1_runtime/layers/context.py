"""Context of one engine step for the layers: positions, cache slots and chunks.

A step is a flat list of tokens from several sequences. Each of the first `decode` rows is one token of
a different sequence. The prefill chunks follow, each a range of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Rows [begin, end): the newest tokens of one sequence.

    `context` lists the cache slots of all its tokens so far, these rows included.
    """

    begin: int
    end: int
    context: Tensor


@dataclass(frozen=True, slots=True)
class StepContext:
    """Tensors of one step; T rows, B decode rows, S the longest decode context.

    Attributes:
        positions: [T] position of each row in its sequence.
        slots: [T] cache slot for each row's latent.
        decode: B, the number of leading rows that decode.
        decode_context: [B, S] cache slots, padded with the sequence's first one.
        decode_mask: [B, 1, 1, S] False where decode_context is padding; None without padding.
        prefill: the chunks after the decode rows.
        sample_rows: rows whose logits are computed.
    """

    positions: Tensor
    slots: Tensor
    decode: int
    decode_context: Tensor | None
    decode_mask: Tensor | None
    prefill: tuple[PrefillChunk, ...]
    sample_rows: Tensor
