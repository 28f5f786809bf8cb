"""One rank's part of a checkpoint, read without the other ranks' parts where the format allows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.parallel.slices import WeightSlice, local_experts, weight_slices
from r1_runtime.backends.parallel.stage import Stage
from r1_runtime.backends.reference.loading import stored_parts
from r1_runtime.checkpoint.decoding import SCALE_BLOCK, Float32, decode
from r1_runtime.checkpoint.source import Checkpoint, StoredTensor


def load_stage(
    checkpoint: Checkpoint,
    layout: ParallelLayout,
    rank: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Stage:
    """The layers of a rank with their weights.

    Raises:
        ModelLoadError: the checkpoint lacks a tensor.
    """
    description = checkpoint.description
    slices = weight_slices(description, layout, rank)
    stage = Stage(description, layout, rank)
    state: dict[str, Tensor] = {}
    for name, parameter in stage.state_dict().items():
        kept = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        target = torch.zeros(parameter.shape, dtype=kept, device=device)
        for source, part in stored_parts(name, target, _first_expert(stage, name, layout, rank)):
            if source in slices:  # else a bias that another rank adds
                _copy(checkpoint, source, slices[source], part)
        state[name] = target
    stage.load_state_dict(state, strict=True, assign=True)
    return stage.requires_grad_(False).eval()


def _first_expert(stage: Stage, name: str, layout: ParallelLayout, rank: int) -> int:
    if ".experts." not in name:
        return 0
    mixture = stage.description.layers[int(name.split(".")[1])].feed_forward
    return local_experts(getattr(mixture, "experts", 0), layout, layout.place(rank).index).start


def _copy(checkpoint: Checkpoint, name: str, wanted: WeightSlice, target: Tensor) -> None:
    stored = checkpoint.tensor(name)
    target.copy_(torch.from_numpy(decode_slice(stored, wanted)))
    checkpoint.release(stored)


def decode_slice(stored: StoredTensor, wanted: WeightSlice) -> Float32:
    """The values of a slice; rows outside of it are not decoded."""
    begin, end = wanted.rows.start, wanted.rows.stop
    if wanted.columns is None:
        return decode(stored)[begin:end]
    # FP8 has a factor for each block of rows: whole blocks are decoded.
    step = SCALE_BLOCK if stored.scale is not None else 1
    first = begin // step * step
    last = min(-(-end // step) * step, stored.shape[0])
    row_bytes = stored.data.size // stored.shape[0]
    part = replace(
        stored,
        shape=(last - first, *stored.shape[1:]),
        data=stored.data.reshape(-1)[first * row_bytes : last * row_bytes],
        scale=None if stored.scale is None else stored.scale[first // step : -(-last // step)],
    )
    values = decode(part)[begin - first : end - first]
    return np.ascontiguousarray(values[:, wanted.columns.start : wanted.columns.stop])
