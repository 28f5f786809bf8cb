"""Export of a model in the published checkpoint layout: one matrix per expert."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from r1_runtime.backends.reference.loading import stored_parts
from r1_runtime.backends.reference.network import Network


def checkpoint_tensors(model: Network) -> Iterator[tuple[str, Tensor]]:
    """(published name, tensor) of all tensors of a checkpoint."""
    for name, tensor in model.state_dict().items():
        for stored, part in stored_parts(name, tensor):
            yield stored if stored == "lm_head.weight" else f"model.{stored}", part


def save_checkpoint(
    model: Network, config: Mapping[str, Any], folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write config.json and model.safetensors; the routers' biases stay float32."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.float() if "e_score" in name else tensor.to(dtype)).contiguous().clone()
        for name, tensor in checkpoint_tensors(model)
    }
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # save_file makes it private, and a pod reads it as another user
    partial.rename(folder / "model.safetensors")
    text = json.dumps(dict(config), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
