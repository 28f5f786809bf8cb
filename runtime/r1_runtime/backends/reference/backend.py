"""The reference backend: one step in torch. Readable, not fast; the oracle of the other backends."""

from __future__ import annotations

import torch

from r1_runtime.backends.reference.network import Network
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.reference.step_layout import step_layout
from r1_runtime.backends.step_plan import StepPlan, StepResult


class ReferenceBackend:
    """A network and its paged cache.

    Args:
        network: with weights, on its device.
        block_count: blocks of the cache.
        block_size: tokens per block.

    Attributes:
        caches: [slots, values per token] of each layer; a slot is a token's place.
    """

    def __init__(self, network: Network, block_count: int, block_size: int) -> None:
        self._network = network
        self._block_size = block_size
        weight = network.embed_tokens.weight
        self._device = weight.device
        self.caches = [
            weight.new_zeros(block_count * block_size, layer.self_attn.cache_width)
            for layer in network.decoder_layers()
        ]

    def step(self, plan: StepPlan) -> StepResult:
        """Compute the rows, write their cache entries, and sample."""
        layout = step_layout(plan, self._block_size, self._device)
        logits = self._network.forward_paged(self.caches, layout)
        return sample_rows(logits.cpu().numpy(), plan.sampling)

    def set_threads(self, count: int) -> None:
        """Use `count` CPU threads from the next step on."""
        torch.set_num_threads(count)
