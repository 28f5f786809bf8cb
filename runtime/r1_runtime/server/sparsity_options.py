"""From the engine's configuration to a policy of sparse attention."""

from __future__ import annotations

from pathlib import Path

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.sparsity.heads import (
    FILE_NAME,
    HeadMode,
    HeadModes,
    key_heads,
    read_head_modes,
    uniform,
)
from r1_runtime.sparsity.policy import DynamicSparseAttention


def sparsity_policy(
    config: R1Config, model: Path, description: ModelDescription
) -> DynamicSparseAttention | None:
    """The policy that the options ask for; None for dense attention.

    Head modes come from `--attention-heads`, or from `attention_heads.json` beside the checkpoint. With
    `--attention-window` alone, every head reads the window.

    Raises:
        OptionError: an option lacks another one, or has the modes of another model.
    """
    window, sparsity = config.attention_window, config.attention_sparsity
    if sparsity is None and window is None:
        _refuse_without_sparsity(config)
        return None
    heads = key_heads(description)
    modes = _modes(config, model, heads)
    if sparsity is None and modes is None:
        modes = uniform(heads, HeadMode.WINDOW)
    low, high = config.sparsity_range
    try:
        return DynamicSparseAttention(
            sparsity=0.0 if sparsity is None else sparsity,
            adaptive=config.adaptive_sparsity,
            drop_range=(low, high),
            mass=config.sparsity_mass,
            sink_tokens=config.attention_sinks,
            correction=config.sparsity_correction,
            prompts=config.sparse_prompts,
            from_context=config.sparse_from if sparsity is not None else 1,
            window=512 if window is None else window,
            heads=modes,
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        flag = {"drop_range": "--sparsity-range"}.get(name, name)
        raise OptionError(f"command line: {flag} {rest}.") from error


def _modes(config: R1Config, model: Path, heads: tuple[int, ...]) -> HeadModes | None:
    beside = (model if model.is_dir() else model.parent) / FILE_NAME
    path = Path(config.attention_heads) if config.attention_heads else beside
    if not config.attention_heads and not beside.is_file():
        return None
    modes = read_head_modes(path)
    modes.check(heads, str(path))
    return modes


def _refuse_without_sparsity(config: R1Config) -> None:
    """Refuse options that would change nothing."""
    given = {
        "--adaptive-sparsity": config.adaptive_sparsity,
        "--sparsity-correction": config.sparsity_correction,
        "--sparse-prompts": config.sparse_prompts,
        "--attention-heads": bool(config.attention_heads),
    }
    for flag, value in given.items():
        if value:
            raise OptionError(
                f"command line: {flag} changes nothing while attention is dense."
                " Fix: add --attention-sparsity 0.8, or remove it."
            )
