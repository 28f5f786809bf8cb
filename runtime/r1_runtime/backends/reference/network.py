"""The network of any description, in torch: readable, differentiable, the oracle of other backends.

Module names follow the published checkpoints, without the prefix `model.`; only the routed experts
are stacked. Parameters have no initial values: a loader or a trainer fills them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import ModelDescription, Rope
from r1_runtime.backends.reference.decoder_layer import DecoderLayer
from r1_runtime.backends.reference.draft_layer import DraftLayer
from r1_runtime.backends.reference.modules import Embedding, Linear, RMSNorm
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.backends.reference.step_layout import StepLayout


class Network(nn.Module):
    """The network with its output head.

    Args:
        description: of the network.
        with_draft_layer: add the layer that drafts a token, which the description must have.
    """

    def __init__(self, description: ModelDescription, *, with_draft_layer: bool = False) -> None:
        super().__init__()
        hidden, eps = description.hidden_size, description.norm_eps
        self.description = description
        self.embed_tokens = Embedding(description.vocab_size, hidden)
        self.layers = nn.ModuleList(
            DecoderLayer(layer, hidden, eps) for layer in description.layers
        )
        self.norm = RMSNorm(hidden, eps)
        if not description.tied_head:
            self.lm_head = Linear(hidden, description.vocab_size)
        self.draft_layer: DraftLayer | None = None
        if with_draft_layer and description.draft_layer is not None:
            self.draft_layer = DraftLayer(description.draft_layer, hidden, eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of whole sequences [batch, length], without a cache."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        tables = self._rotary_tables(positions)
        x = self.embed_tokens(tokens)
        for layer in self.decoder_layers():
            x = layer(x, *tables[layer.rope])
        return F.linear(self.norm(x), self._head())

    @torch.inference_mode()
    def forward_paged(self, caches: Sequence[Tensor], step: StepLayout) -> Tensor:
        """Logits [outputs, vocab], float32, of one step.

        Args:
            caches: [slots, cache_width] of each layer, written in place.
            step: the rows.
        """
        return self.logits(self.hidden_paged(caches, step)[step.output_rows])

    @torch.inference_mode()
    def hidden_paged(self, caches: Sequence[Tensor], step: StepLayout) -> Tensor:
        """Last hidden states [T, hidden] of one step, after the final norm; see `forward_paged`."""
        tables = self._rotary_tables(step.positions)
        x = self.embed_tokens(step.tokens)
        for index, (layer, cache) in enumerate(zip(self.decoder_layers(), caches, strict=True)):
            of_layer = replace(step, layer=index)
            x = layer.forward_paged(x, *tables[layer.rope], cache, of_layer)
        return self.norm(x)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def draft_paged(
        self, state: Tensor, next_tokens: Tensor, cache: Tensor, step: StepLayout
    ) -> Tensor:
        """Logits [outputs, vocab] of the token after the next one, by the draft layer.

        Args:
            state: [T, hidden] result of `hidden_paged`.
            next_tokens: [T] the token after each row.
            cache: [slots, cache_width] of the draft layer, written in place.
            step: the rows.
        """
        assert self.draft_layer is not None  # noqa: S101
        rotary = cos_sin(self.draft_layer.rope, step.positions)
        embedded = self.embed_tokens(next_tokens)
        x = self.draft_layer.draft_paged(state, embedded, rotary, cache, step)
        return self.logits(x[step.output_rows])

    def logits(self, normed: Tensor) -> Tensor:
        """Logits [n, vocab], float32, of normed hidden states [n, hidden]."""
        return F.linear(normed, self._head()).float()

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _rotary_tables(self, positions: Tensor) -> dict[Rope, tuple[Tensor, Tensor]]:
        """Cosines and sines of each distinct rotary embedding; usually there is one."""
        ropes = {layer.rope for layer in self.decoder_layers()}
        return {rope: cos_sin(rope, positions) for rope in ropes}

    def _head(self) -> Tensor:
        return self.embed_tokens.weight if self.description.tied_head else self.lm_head.weight
