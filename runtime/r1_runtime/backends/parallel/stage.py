"""The layers of one rank: the reference backend's modules in smaller sizes, with sums between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import MixtureOfExperts, ModelDescription, Rope
from r1_runtime.backends.parallel.communication import Communication
from r1_runtime.backends.parallel.experts import LocalExperts
from r1_runtime.backends.parallel.layout import ParallelLayout, part, rank_layers
from r1_runtime.backends.parallel.slices import local_experts
from r1_runtime.backends.reference.decoder_layer import DecoderLayer
from r1_runtime.backends.reference.modules import Embedding, Linear, RMSNorm
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

    def logits(self, normed: Tensor) -> Tensor:
        """Logits [rows, this rank's tokens], float32, of normed hidden states [rows, hidden]."""
        head = self.embed_tokens if self.description.tied_head else self.lm_head
        return F.linear(normed, head.weight).float()


@dataclass(frozen=True, slots=True)
class RankOutput:
    """What rank 0 has after a step, in float32; None on the other ranks.

    Attributes:
        logits: [outputs, vocab].
        hidden: [hidden rows, hidden] last hidden states after the final norm.
    """

    logits: Tensor | None
    hidden: Tensor | None


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
    def compute(self, plan: StepPlan) -> RankOutput:
        """Compute this rank's part of a step."""
        stage, between = self._stage, self._communication
        step = step_layout(plan, self._block_size, self._device)
        hidden_size = stage.description.hidden_size
        if between.first:
            x = between.sum(stage.embed(step.tokens))
        else:
            rows = len(step.tokens), hidden_size
            x = between.receive_hidden(torch.empty(rows, dtype=self._dtype, device=self._device))
        x = _through_layers(stage.decoder_layers(), x, self._caches, step, between)
        if not between.last:
            between.send_hidden(x)
        return self._output(plan, step, stage.norm(x) if between.last else None)

    def _output(self, plan: StepPlan, step: StepLayout, normed: Tensor | None) -> RankOutput:
        """Exchange what rank 0 needs; `normed` [T, hidden] are the last stage's rows."""
        stage, between, description = self._stage, self._communication, self._stage.description
        logits: Tensor | None = torch.empty(0, description.vocab_size)
        hidden: Tensor | None = None
        if outputs := len(step.output_rows):
            own = None if normed is None else stage.logits(normed[step.output_rows])
            logits = between.gather_logits(own, outputs, description.vocab_size)
        if count := len(plan.hidden_rows):
            rows = torch.from_numpy(plan.hidden_rows.astype(np.int64)).to(self._device)
            own = None if normed is None else normed[rows].float()
            hidden = between.hidden_on_leader(own, count, description.hidden_size)
        return RankOutput(logits, hidden)


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
