"""From a `config.json` to a description, by the name of the family.

`config.json` has two spellings: the older one (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of
`transformers` 5 (`rope_parameters`, `dtype`). Both give the same description. A field that changes the
mathematics and is not implemented is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1_runtime.architecture.deepseek import (
    describe_deepseek_v2,
    describe_deepseek_v3,
    describe_deepseek_v32,
)
from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.fields import ConfigFields
from r1_runtime.architecture.llama import (
    describe_llama,
    describe_mistral,
    describe_qwen2,
    describe_qwen3,
    describe_qwen3_moe,
    describe_split_llama,
)
from r1_runtime.errors import ModelLoadError
from r1_runtime.json_files import read_json_object

Describe = Callable[[ConfigFields], ModelDescription]

# model_type -> (name in `architectures`, parser)
FAMILIES: dict[str, tuple[str, Describe]] = {
    "deepseek_v2": ("DeepseekV2ForCausalLM", describe_deepseek_v2),
    "deepseek_v3": ("DeepseekV3ForCausalLM", describe_deepseek_v3),
    "deepseek_v32": ("DeepseekV32ForCausalLM", describe_deepseek_v32),
    "llama": ("LlamaForCausalLM", describe_llama),
    "mistral": ("MistralForCausalLM", describe_mistral),
    "qwen2": ("Qwen2ForCausalLM", describe_qwen2),
    "qwen3": ("Qwen3ForCausalLM", describe_qwen3),
    "qwen3_moe": ("Qwen3MoeForCausalLM", describe_qwen3_moe),
    "r1_split_llama": ("R1SplitLlamaForCausalLM", describe_split_llama),
}

_FIX_FOLDER = "point --model-path at the folder that holds config.json and the *.safetensors files."


def read_description(folder: Path, *, positions: int | None = None) -> ModelDescription:
    """Describe the checkpoint in `folder` by its config.json.

    Args:
        folder: the checkpoint.
        positions: longest sequence that will be computed; None for the model's own limit.

    Raises:
        ModelLoadError: the file is missing, is not JSON, or describes what is not implemented.
    """
    path = folder / "config.json"
    if folder.is_file():
        raise ModelLoadError(folder, "neither a folder nor a *.gguf file.", _FIX_FOLDER)
    if not folder.is_dir():
        raise ModelLoadError(
            folder,
            "no such folder.",
            "mount or download the model there, or change --model-path.",
        )
    if not path.is_file():
        raise ModelLoadError(folder, "config.json is missing.", _FIX_FOLDER)
    return describe(read_json_object(path), path, positions=positions)


def describe(
    raw: Mapping[str, Any], where: object = "config.json", *, positions: int | None = None
) -> ModelDescription:
    """Describe the network of a parsed config.json; see `read_description`."""
    family = _family(raw, where)
    _, parse = FAMILIES[family]
    return parse(ConfigFields(raw, family, where, positions))


def _family(raw: Mapping[str, Any], where: object) -> str:
    """The family by both names: a variant of an architecture may keep one of them."""
    model_type, architectures = raw.get("model_type"), raw.get("architectures")
    fix = f"serve a checkpoint of {', '.join(FAMILIES)}, or use vLLM."
    by_architecture = {name: family for family, (name, _) in FAMILIES.items()}
    if architectures:
        known = isinstance(architectures, list) and len(architectures) == 1
        family = by_architecture.get(str(architectures[0])) if known else None
        if family is None or model_type not in (None, family):
            given = "" if model_type is None else f" and model_type is {model_type!r}"
            raise ModelLoadError(
                where, f"architectures is {architectures!r}{given}, which is not implemented.", fix
            )
        return family
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ModelLoadError(
            where, f"model_type is {model_type or 'none'!r}, which is not implemented.", fix
        )
    return model_type
