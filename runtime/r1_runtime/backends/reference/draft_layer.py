"""DeepSeek-V3's multi-token prediction (arXiv 2412.19437, section 2.2): one layer drafts one token.

At position i, the layer sees the network's last hidden state and the embedding of token i + 1, and
predicts token i + 2. Its attention has a cache of its own in the blocks of the sequence. Embedding
and output head are the network's.

A shared block of the prefix cache may hold the layer's entry for another token i + 1 in its last slot.
That affects proposals, never the output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from r1_runtime.architecture.description import Layer
from r1_runtime.backends.reference.decoder_layer import DecoderLayer
from r1_runtime.backends.reference.modules import Linear, RMSNorm
from r1_runtime.backends.reference.step_layout import StepLayout


class _SharedHead(nn.Module):
    """The norm before the output head."""

    def __init__(self, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden, norm_eps)


class DraftLayer(DecoderLayer):
    """The layer with its two norms and the projection before it."""

    def __init__(self, layer: Layer, hidden: int, norm_eps: float) -> None:
        super().__init__(layer, hidden, norm_eps)
        self.enorm = RMSNorm(hidden, norm_eps)
        self.hnorm = RMSNorm(hidden, norm_eps)
        self.eh_proj = Linear(2 * hidden, hidden)
        self.shared_head = _SharedHead(hidden, norm_eps)

    def draft_paged(
        self,
        state: Tensor,
        embedded: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: Tensor,
        step: StepLayout,
    ) -> Tensor:
        """Normed hidden states [T, hidden] for the output head.

        Args:
            state: [T, hidden] last hidden states of the network, after its final norm.
            embedded: [T, hidden] embeddings of the token after each row.
            rotary: cosines and sines of the rows' positions.
            cache: [slots, cache_width], written in place.
            step: the rows.
        """
        joined = torch.cat((self.enorm(embedded), self.hnorm(state)), dim=-1)
        x = self.forward_paged(self.eh_proj(joined), *rotary, cache, step)
        return self.shared_head.norm(x)  # type: ignore[no-any-return]
