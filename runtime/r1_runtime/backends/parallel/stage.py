"""The layers of one rank: the reference backend's modules in smaller sizes, with sums between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import MixtureOfExperts, ModelDescription, Rope
from r1_runtime.backends.parallel.communication import Communication
from r1_runtime.backends.parallel.experts import LocalExperts
from r1_runtime.backends.parallel.layout import ParallelLayout, part, rank_layers
from r1_runtime.backends.parallel.slices import local_experts
from r1_runtime.backends.reference.modules import Embedding, Linear, RMSNorm
from r1_runtime.backends.reference.network import DecoderLayer
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.backends.reference.step_layout import StepLayout, step_layout
from r1_runtime.backends.step_plan import StepPlan


class Stage(nn.Module):
    """One rank's part of a network; parameters have no initial values.

    Layers keep their numbers of the whole network, so that parameter names are those of a checkpoint.
    """

    def __init__(self, description: ModelDescription, layout: ParallelLayout, rank: int) -> None:
        super().__init__()
        place = layout.place(rank)
        hidden, eps = description.hidden_size, description.norm_eps
        last = place.stage == layout.pipeline - 1
        self.description = description
        self.vocabulary = part(description.vocab_size, layout.tensor, place.index)
        self.layers = nn.ModuleDict()
        for number, layer in rank_layers(description, layout, place.stage).items():
            experts = None
            if layout.whole_experts and isinstance(layer.feed_forward, MixtureOfExperts):
                local = local_experts(layer.feed_forward.experts, layout, place.index)
                experts = LocalExperts(layer.feed_forward, hidden, local)
            self.layers[str(number)] = DecoderLayer(layer, hidden, eps, experts)
        if place.stage == 0 or (last and description.tied_head):
            self.embed_tokens = Embedding(len(self.vocabulary), hidden)
        if last:
            self.norm = RMSNorm(hidden, eps)
            if not description.tied_head:
                self.lm_head = Linear(hidden, len(self.vocabulary))

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers.values() if isinstance(layer, DecoderLayer)]

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows [T, hidden] of the tokens on this rank; zeros for the others."""
        place = tokens - self.vocabulary.start
        here = (place >= 0) & (place < len(self.vocabulary))
        rows: Tensor = self.embed_tokens(place.where(here, 0))
        return rows * here.unsqueeze(-1)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [rows, this rank's tokens], float32."""
        head = self.embed_tokens if self.description.tied_head else self.lm_head
        return F.linear(self.norm(x), head.weight).float()


class RankBackend:
    """One rank's layers and their part of the cache.

    Args:
        stage: with weights, on its device.
        communication: of the same rank.
        blocks: blocks of the cache.
        block_size: tokens per block.
    """

    def __init__(
        self, stage: Stage, communication: Communication, blocks: int, block_size: int
    ) -> None:
        self._stage, self._communication, self._block_size = stage, communication, block_size
        weight = next(stage.parameters())
        self._dtype, self._device = weight.dtype, weight.device
        self._caches = [
            torch.zeros(
                blocks * block_size,
                layer.self_attn.cache_width,
                dtype=self._dtype,
                device=self._device,
            )
            for layer in stage.decoder_layers()
        ]

    @torch.inference_mode()
    def logits(self, plan: StepPlan) -> Tensor | None:
        """Compute this rank's part of a step; the logits [outputs, vocab] on rank 0."""
        stage, between = self._stage, self._communication
        step = step_layout(plan, self._block_size, self._device)
        description = stage.description
        if between.first:
            x = between.sum(stage.embed(step.tokens))
        else:
            rows = len(step.tokens), description.hidden_size
            x = between.receive_hidden(torch.empty(rows, dtype=self._dtype, device=self._device))
        x = _through_layers(stage.decoder_layers(), x, self._caches, step, between)
        outputs = len(step.output_rows)
        if not between.last:
            between.send_hidden(x)
        if not outputs:
            return torch.empty(0, description.vocab_size)
        own = stage.logits(x[step.output_rows]) if between.last else None
        return between.gather_logits(own, outputs, description.vocab_size)


def _through_layers(
    layers: Sequence[DecoderLayer],
    x: Tensor,
    caches: Sequence[Tensor],
    step: StepLayout,
    between: Communication,
) -> Tensor:
    tables: dict[Rope, tuple[Tensor, Tensor]] = {}
    for layer, cache in zip(layers, caches, strict=True):
        if layer.rope not in tables:
            tables[layer.rope] = cos_sin(layer.rope, step.positions)
        normed = layer.input_layernorm(x)
        x = x + between.sum(layer.self_attn.forward_paged(normed, *tables[layer.rope], cache, step))
        x = x + between.sum(layer.mlp(layer.post_attention_layernorm(x)))
    return x
