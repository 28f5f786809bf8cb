"""What one engine step tells the layers, beside the tokens themselves.

A step is a flat row of tokens from several sequences. The first `decode` rows each belong to a
sequence of their own that adds one token; then come the prefill chunks, each a run of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Rows [begin, end) are the newest tokens of one sequence.

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
        slots: [T] cache slot that each row's latent is written to.
        decode: B, the number of leading rows that decode.
        decode_context: [B, S] cache slots, padded with the sequence's first one.
        decode_mask: [B, 1, 1, S] True where decode_context is real; None when nothing is padded.
        prefill: the chunks after the decode rows.
        sample_rows: rows whose logits are wanted.
    """

    positions: Tensor
    slots: Tensor
    decode: int
    decode_context: Tensor | None
    decode_mask: Tensor | None
    prefill: tuple[PrefillChunk, ...]
    sample_rows: Tensor
