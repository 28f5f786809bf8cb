"""A checkpoint folder with config.json and safetensors files.

All names and shapes are compared with the description when the folder is opened, so that a damaged or
foreign checkpoint is an error before anything is allocated. Values are read when they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.weight_names import draft_weight_shapes, weight_shapes
from r1_runtime.checkpoint.decoding import SCALE_BLOCK, decode
from r1_runtime.checkpoint.fused_experts import ExpertPart, is_fused, split_experts
from r1_runtime.checkpoint.safetensors_files import COPY_AGAIN, FileTensor, read_tensors
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.errors import ModelLoadError

_SCALE = "_scale_inv"  # after the name of an FP8 matrix
_ENCODINGS = {
    "F32": Encoding.F32,
    "F16": Encoding.F16,
    "BF16": Encoding.BF16,
    "F8_E4M3": Encoding.F8_E4M3,
}

Place = FileTensor | ExpertPart


class SafetensorsCheckpoint:
    """An open folder.

    Raises:
        ModelLoadError: a file is damaged, or a tensor is missing, unknown, of another shape or of a
            type that is not implemented.
    """

    def __init__(self, folder: Path, description: ModelDescription) -> None:
        self._folder = folder
        self._description = description
        self._scales: dict[str, FileTensor] = {}
        self._places = self._find(read_tensors(folder))

    @property
    def description(self) -> ModelDescription:
        return self._description

    def names(self) -> frozenset[str]:
        return frozenset(self._places)

    def tensor(self, name: str) -> StoredTensor:
        place = self._places.get(name)
        if place is None:
            raise ModelLoadError(self._folder, f"the weights lack {name}.", COPY_AGAIN)
        source = place.tensor if isinstance(place, ExpertPart) else place
        data = place.data() if isinstance(place, ExpertPart) else place.data
        scale = self._scales.get(name)
        return StoredTensor(
            name,
            place.shape,
            _ENCODINGS[source.dtype],
            data,
            None if scale is None else _factors(scale),
        )

    def release(self, tensor: StoredTensor) -> None:
        place = self._places[tensor.name]
        source = place.tensor if isinstance(place, ExpertPart) else place
        source.file.release(tensor.data)

    def _find(self, published: Mapping[str, FileTensor]) -> dict[str, Place]:
        optional = draft_weight_shapes(self._description)
        required = weight_shapes(self._description)
        expected = required | optional
        places: dict[str, Place] = {}
        fused: dict[str, FileTensor] = {}
        for full_name, tensor in published.items():
            name = full_name.removeprefix("model.")
            known = name in optional or name.removesuffix(_SCALE) in optional
            if not known and is_unused(name, self._description):
                continue
            if name.endswith(_SCALE) and name.removesuffix(_SCALE) in expected:
                self._scales[name.removesuffix(_SCALE)] = tensor
            elif is_fused(name):
                fused[name] = tensor
            elif name in expected:
                places[name] = tensor
            else:
                raise self._unknown(full_name)
        places |= split_experts(fused, self._description)
        if not optional.keys() <= places.keys():  # config.json names a layer that was not published
            places = {name: place for name, place in places.items() if name in required}
        self._check(places, expected, required.keys() - places.keys())
        return places

    def _check(
        self,
        places: Mapping[str, Place],
        expected: Mapping[str, tuple[int, ...]],
        lacking: AbstractSet[str],
    ) -> None:
        missing = sorted(lacking, key=_natural)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelLoadError(self._folder, f"the weights lack {missing[0]}{more}.", COPY_AGAIN)
        for name, place in places.items():
            source = place.tensor if isinstance(place, ExpertPart) else place
            self._check_shape(source.name, place.shape, expected[name])
            if source.dtype not in _ENCODINGS:
                raise ModelLoadError(
                    source.file.path,
                    f"{source.name} is stored as {source.dtype}, which is not implemented.",
                    f"use a checkpoint in {', '.join(_ENCODINGS)}, or a GGUF file.",
                )
            self._check_scale(name, source, expected[name])

    def _check_scale(self, name: str, source: FileTensor, shape: tuple[int, ...]) -> None:
        scale, quantized = self._scales.get(name), source.dtype == "F8_E4M3"
        if quantized and scale is None:
            raise ModelLoadError(
                source.file.path,
                f"{source.name} is FP8, but {source.name}{_SCALE} is missing.",
                "use a checkpoint with one factor per block of 128 x 128, or one in bfloat16.",
            )
        if scale is None:
            return
        if not quantized:
            raise self._unknown(scale.name)
        self._check_shape(scale.name, scale.shape, tuple(-(-size // SCALE_BLOCK) for size in shape))
        if scale.dtype not in ("F32", "BF16"):
            raise ModelLoadError(
                scale.file.path,
                f"{scale.name} is stored as {scale.dtype}, which is not implemented.",
                "use factors in float32 or bfloat16.",
            )

    def _check_shape(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if shape != expected:
            raise ModelLoadError(
                self._folder,
                f"{name} has shape {list(shape)}; config.json requires {list(expected)}.",
                _OTHER_CONFIG,
            )

    def _unknown(self, name: str) -> ModelLoadError:
        return ModelLoadError(
            self._folder,
            f"the weights have {name}, which does not exist in a model of this config.json.",
            _OTHER_CONFIG,
        )


_OTHER_CONFIG = "use the config.json that belongs to these weights."


def is_unused(name: str, description: ModelDescription) -> bool:
    """Whether the network does not use a tensor.

    That is a tied head, a rotary table, DeepSeek's further layers, and V3.2's indexer.
    """
    if name == "lm_head.weight":
        return description.tied_head
    if name.endswith("rotary_emb.inv_freq"):
        return True
    if ".self_attn.indexer." in name:
        return description.family == "deepseek_v32"
    layer = re.match(r"layers\.(\d+)\.", name)
    further = layer is not None and int(layer[1]) >= len(description.layers)
    return further and description.family.startswith("deepseek")


def _factors(scale: FileTensor) -> NDArray[np.float32]:
    return decode(StoredTensor(scale.name, scale.shape, _ENCODINGS[scale.dtype], scale.data))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which layer 10 follows layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
