"""Export of a model in the published checkpoint layout: one matrix per expert."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from r1_runtime.models.deepseek_v3 import DeepseekV3


def checkpoint_tensors(model: DeepseekV3) -> Iterator[tuple[str, Tensor]]:
    """(published name, tensor) of all tensors of a checkpoint."""
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            if not model.config.tie_word_embeddings:
                yield name, tensor
            continue
        published = f"model.{name}"
        if name.endswith("experts.gate_up_proj"):
            stem = published.removesuffix("gate_up_proj")
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                yield f"{stem}{expert}.gate_proj.weight", gate
                yield f"{stem}{expert}.up_proj.weight", up
        elif name.endswith("experts.down_proj"):
            stem = published.removesuffix("down_proj")
            for expert, down in enumerate(tensor):
                yield f"{stem}{expert}.down_proj.weight", down
        else:
            yield published, tensor


def save_checkpoint(
    model: DeepseekV3, config: Mapping[str, Any], folder: Path, dtype: torch.dtype = torch.bfloat16
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
