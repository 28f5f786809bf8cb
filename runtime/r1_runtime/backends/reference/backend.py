"""The reference backend: one step in torch. Readable, not fast; the oracle of the other backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from r1_runtime.backends.reference.decoder_layer import DecoderLayer
from r1_runtime.backends.reference.network import Network
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.reference.step_layout import step_layout
from r1_runtime.backends.step_plan import StepPlan, StepResult
from r1_runtime.sparsity.policy import DynamicSparseAttention


class ReferenceBackend:
    """A network and its paged cache.

    Args:
        network: with weights, on its device.
        block_count: blocks of the cache.
        block_size: tokens per block.
        sparsity: policy of sparse attention; None for dense attention.
        cache_codec: codec of the cache (`sparsity.cache_codecs`); None for the network's data type.

    Attributes:
        caches: [slots, values per token] of each layer; a slot is a token's place. The draft layer's
            cache is the last one.
    """

    def __init__(
        self,
        network: Network,
        block_count: int,
        block_size: int,
        *,
        sparsity: DynamicSparseAttention | None = None,
        cache_codec: str | None = None,
    ) -> None:
        self._network = network
        self._block_count = block_count
        self._block_size = block_size
        self._sparsity = sparsity
        self._cache_codec = cache_codec
        self._device = network.embed_tokens.weight.device
        self.caches: list[Tensor] = []
        self.allocate_cache()

    def step(self, plan: StepPlan) -> StepResult:
        """Compute the rows, write their cache entries, and sample."""
        network, count = self._network, len(self._network.decoder_layers())
        layout = step_layout(
            plan, self._block_size, self._device, self._sparsity, self._cache_codec
        )
        state = network.hidden_paged(self.caches[:count], layout)
        logits = network.logits(state[layout.output_rows])
        result = sample_rows(logits.cpu().numpy(), plan.sampling)
        if len(plan.hidden_rows):
            rows = torch.from_numpy(plan.hidden_rows.astype(np.int64)).to(self._device)
            result = replace(result, hidden=state[rows].float().cpu().numpy())
        if network.draft_layer is None or not len(plan.next_tokens):
            return result
        following = plan.next_tokens.astype(np.int64)
        sampled = following[plan.output_rows] < 0
        following[plan.output_rows[sampled]] = np.maximum(result.tokens[sampled], 0)
        tokens = torch.from_numpy(np.maximum(following, 0)).to(self._device)
        drafts = network.draft_paged(state, tokens, self.caches[-1], layout).argmax(-1)
        return replace(result, drafts=drafts.cpu().numpy().astype(np.int32))

    def set_threads(self, count: int) -> None:
        """Use `count` CPU threads from the next step on."""
        torch.set_num_threads(count)

    def close(self) -> None:
        """Free weights and cache. Nothing else may be called afterwards."""
        del self._network
        self.release_cache()

    def release_cache(self) -> None:
        """Free the cache. No step can run until `allocate_cache`."""
        self.caches = []
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # for other processes

    def allocate_cache(self) -> None:
        """Allocate the cache again, without content.

        Raises:
            MemoryError: it does not fit.
        """
        layers: list[DecoderLayer] = self._network.decoder_layers()
        if self._network.draft_layer is not None:
            layers.append(self._network.draft_layer)
        weight, slots = self._network.embed_tokens.weight, self._block_count * self._block_size
        try:
            self.caches = [weight.new_zeros(slots, layer.self_attn.cache_width) for layer in layers]
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
