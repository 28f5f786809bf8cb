"""The backend for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from r1_runtime.architecture.description import Attention, LatentAttention
from r1_runtime.backends.cuda.graphs import DecodeGraphs, GraphCapture, buckets_up_to, uncaptured
from r1_runtime.backends.cuda.loading import load_network
from r1_runtime.backends.cuda.sampler import sample_on_device
from r1_runtime.backends.cuda.step_arrays import (
    CacheShape,
    DecodeArrays,
    KernelLimits,
    StepArrays,
    step_arrays,
)
from r1_runtime.backends.step_plan import StepPlan, StepResult
from r1_runtime.checkpoint.source import Checkpoint

_EXPANDED_ROWS = 170  # where both forms cost the same for the shape of DeepSeek-V3
_INTERPRETED_PROCESSORS = 4  # without a GPU: enough for several parts of a context


class CudaBackend:
    """A network and its paged cache on one GPU.

    Without a GPU, `device="cpu"` and Triton's interpreter compute the same; tests do so.

    Args:
        checkpoint: the model.
        blocks: blocks of the cache.
        block_size: tokens per block.
        max_positions: tokens of the longest sequence; default: the model's.
        max_sequences: sequences of the largest step with a graph; 0 for none.
        device: torch device.
        dtype: of computation, cache and weights that are not packed.
        int4_experts: pack the routed experts to 4 bits.
        expanded_rows: rows of a sequence from which latent attention expands keys and values.

    Attributes:
        network: the loaded network.
        caches: [slots, values per token] of each layer.
        graphs: decode graphs, or None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        blocks: int,
        block_size: int,
        max_positions: int | None = None,
        max_sequences: int = 64,
        device: str = "cuda",
        dtype: torch.dtype = torch.bfloat16,
        int4_experts: bool = False,
        expanded_rows: int = _EXPANDED_ROWS,
    ) -> None:
        self._device = torch.device(device)
        self._dtype = dtype
        self._max_sequences = max_sequences
        positions = max_positions or checkpoint.description.max_positions
        self._cache = CacheShape(blocks, block_size, positions)
        self._limits = KernelLimits(dtype.itemsize, _processors(self._device), expanded_rows)
        with torch.inference_mode(), self._current_device():
            self.network = load_network(
                checkpoint, device=self._device, dtype=dtype, int4_experts=int4_experts
            )
        self.caches: Sequence[Tensor] = ()
        self.graphs: DecodeGraphs | None = None
        self.allocate_cache()

    def step(self, plan: StepPlan) -> StepResult:
        """Compute the rows, write their cache entries, and sample."""
        with torch.inference_mode(), self._current_device():
            if len(plan.hidden_rows):
                return self._step_with_states(plan)
            return sample_on_device(self._logits(plan), plan.sampling)

    def logits(self, plan: StepPlan) -> Tensor:
        """Logits [S, vocab], float32, of the plan's output rows; valid until the next step."""
        with torch.inference_mode(), self._current_device():
            return self._logits(plan)

    def _logits(self, plan: StepPlan) -> Tensor:
        bucket = None if self.graphs is None else self.graphs.bucket(plan)
        if self.graphs is not None and bucket is not None:
            return self.graphs.logits(plan, bucket)
        return self.network.logits(self.caches, self._arrays(plan))

    def _step_with_states(self, plan: StepPlan) -> StepResult:
        """A step that returns hidden states too; no graph computes it."""
        arrays = self._arrays(plan)
        states = self.network.states(self.caches, arrays)
        result = sample_on_device(self.network.outputs(states, arrays), plan.sampling)
        rows = torch.from_numpy(plan.hidden_rows).to(self._device).long()
        return replace(result, hidden=self.network.norm(states[rows]).float().cpu().numpy())

    def _arrays(self, plan: StepPlan) -> StepArrays:
        return step_arrays(plan, self.network.attentions, self._cache, self._limits, self._device)

    def set_threads(self, count: int) -> None:
        """Use `count` CPU threads from the next step on; the GPU does not depend on it."""
        torch.set_num_threads(count)

    def close(self) -> None:
        """Free weights and cache. Nothing else may be called afterwards."""
        del self.network
        self.release_cache()

    def release_cache(self) -> None:
        """Free the cache and the graphs, which read it. No step can run until `allocate_cache`."""
        self.caches, self.graphs = (), None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # for other processes

    def allocate_cache(self) -> None:
        """Allocate the cache again, without content.

        Raises:
            MemoryError: it does not fit.
        """
        attentions = [layer.attention for layer in self.network.description.layers]
        try:
            with torch.inference_mode(), self._current_device():
                self.caches = [
                    torch.zeros(
                        self._cache.slots,
                        cache_width(attention),
                        dtype=self._dtype,
                        device=self._device,
                    )
                    for attention in attentions
                ]
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        if self._max_sequences:
            self.graphs = DecodeGraphs(
                buckets_up_to(self._max_sequences),
                self._decode_arrays,
                lambda arrays: self.network.logits(self.caches, arrays),
                GraphCapture() if self._device.type == "cuda" else uncaptured,
            )

    def _current_device(self) -> AbstractContextManager[object]:
        """Triton launches on the thread's current device, whichever thread calls."""
        on_gpu = self._device.type == "cuda"
        return torch.cuda.device(self._device) if on_gpu else nullcontext()

    def _decode_arrays(self, capacity: int) -> DecodeArrays:
        return DecodeArrays(
            capacity, self.network.attentions, self._cache, self._limits, self._device
        )


def cache_width(attention: Attention) -> int:
    """Values per token in the cache of a layer."""
    if isinstance(attention, LatentAttention):
        return attention.latent_dim
    return 2 * attention.kv_heads * attention.head_dim


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
