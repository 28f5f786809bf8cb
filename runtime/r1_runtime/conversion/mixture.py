"""Makes a mixture of experts from a dense Llama: splits each feed-forward layer and fits a router.

    nice -n 15 python -m r1_runtime.conversion.mixture --model bundled:smollm2 --out DIR

The result computes what the source computes while all experts run, which is how it is served by
default. With `--expert-mass P` the server runs fewer. A run that was interrupted continues: finished
layers are read from DIR/fit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from r1_runtime.backends.reference.decoder_layer import DecoderLayer
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.modules import SwiGLU
from r1_runtime.backends.reference.network import Network
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.checkpoint.gguf_paths import gguf_file_of
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.conversion.checkpoint_folder import (
    SplitLayer,
    check_source,
    split_config,
    split_tensors,
    write_folder,
)
from r1_runtime.conversion.expert_budget import calibrate
from r1_runtime.conversion.neuron_groups import NeuronGroups, group_neurons
from r1_runtime.conversion.router_fit import contribution_energy, dropped_error, fit_router
from r1_runtime.conversion.text import fitting_texts, token_windows
from r1_runtime.errors import ModelLoadError
from r1_runtime.server.options import resolve_model
from r1_runtime.tokenizer.gguf_vocabulary import read_gguf_tokenizer
from r1_runtime.tokenizer.open import open_tokenizer
from r1_runtime.tokenizer.tokenizer_files import read_tokenizer_files

_log = logging.getLogger("r1_runtime.conversion")
_WINDOW = 512
_GROUPING_TOKENS = 3072  # that the clusters see; more change them little
_ERROR_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What the fit depends on, besides the model.

    Attributes:
        experts: of each layer.
        shared: neurons of each layer that always run.
        tokens: of the text.
        steps: of each router's fit.
        seed: of clusters and batches.
        mass: router mass at which `mean` experts run.
        mean: mean number of experts over tokens and layers at this mass.
        minimum: experts of each layer at least.
    """

    experts: int
    shared: int
    tokens: int
    steps: int
    seed: int
    mass: float
    mean: float
    minimum: int


@dataclass(frozen=True, slots=True)
class FittedLayer:
    """One layer before the calibration.

    Attributes:
        groups: of the neurons.
        router: [experts, hidden].
        logits: [sample, experts] of the router on a sample of the text.
        errors: [experts + 1] relative error of the residual stream with k experts.
    """

    groups: NeuronGroups
    router: Tensor
    logits: Tensor
    errors: Tensor


def fit_layers(
    network: Network, windows: Tensor, settings: Settings, store: Path | None = None
) -> Iterator[FittedLayer]:
    """Fit each layer on the activations of the dense network.

    Args:
        network: dense, float32.
        windows: [windows, length] tokens.
        settings: of the fit.
        store: folder of finished layers; read and written.
    """
    layers = network.decoder_layers()
    positions = torch.arange(windows.shape[1])
    with torch.inference_mode():
        x = network.embed_tokens(windows)
        for index, layer in enumerate(layers):
            started = time.process_time()
            x = x + layer.self_attn(layer.input_layernorm(x), *cos_sin(layer.rope, positions))
            normed = layer.post_attention_layernorm(x)
            assert isinstance(layer.mlp, SwiGLU)  # noqa: S101
            inner = F.silu(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed)
            x = x + layer.mlp.down_proj(inner)
            fitted = _stored(store, index)
            if fitted is None:
                fitted = _fit_layer(layer, normed.flatten(0, 1), inner.flatten(0, 1), x, settings)
                _keep(store, index, fitted)
            half = fitted.errors[settings.experts // 2]
            seconds = time.process_time() - started
            _log.info("layer %d: error %.4f with half, %.0f CPU s", index, half, seconds)
            yield fitted


def _fit_layer(
    layer: DecoderLayer, x: Tensor, inner: Tensor, after: Tensor, settings: Settings
) -> FittedLayer:
    assert isinstance(layer.mlp, SwiGLU)  # noqa: S101
    down = layer.mlp.down_proj.weight
    every = -(-len(inner) // _GROUPING_TOKENS)
    activity = inner[::every].abs() * down.norm(dim=0)
    groups = group_neurons(activity, settings.shared, settings.experts, settings.seed)
    energy = contribution_energy(inner, down, groups)
    with torch.inference_mode(mode=False):
        router = fit_router(x.clone(), energy.clone(), settings.steps, settings.seed)
    sample = slice(None, None, -(-len(x) // _ERROR_TOKENS))
    logits = x[sample] @ router.T
    scale = after.flatten(0, 1)[sample].square().sum(1)
    return FittedLayer(
        groups, router, logits, dropped_error(logits, inner[sample], down, groups, scale)
    )


def _stored(store: Path | None, index: int) -> FittedLayer | None:
    path = None if store is None else store / f"layer-{index:03}.safetensors"
    if path is None or not path.is_file():
        return None
    kept = load_file(path)
    groups = NeuronGroups(kept["shared"], kept["experts"])
    return FittedLayer(groups, kept["router"], kept["logits"], kept["errors"])


def _keep(store: Path | None, index: int, layer: FittedLayer) -> None:
    if store is None:
        return
    store.mkdir(parents=True, exist_ok=True)
    tensors = {
        "shared": layer.groups.shared,
        "experts": layer.groups.experts,
        "router": layer.router,
        "logits": layer.logits,
        "errors": layer.errors,
    }
    partial = store / "partial"
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, partial)
    partial.rename(store / f"layer-{index:03}.safetensors")


def convert(
    model: Path, out: Path, settings: Settings, texts: Sequence[Path], dtype: torch.dtype
) -> dict[str, Any]:
    """Write the split model to `out`; the returned record is also `out/conversion.json`.

    Raises:
        ModelLoadError: the model does not open, or cannot be split.
        ValueError: the sizes do not divide, or the text is too short.
    """
    checkpoint = open_checkpoint(model)
    description = checkpoint.description
    neurons = check_source(description, model)
    if settings.shared >= neurons or (neurons - settings.shared) % settings.experts:
        raise ValueError(
            f"--shared {settings.shared}: {neurons} neurons less the shared ones are not a multiple of"
            f" --experts {settings.experts}."
        )
    tokenizer = open_tokenizer(model, description.vocab_size)
    windows = token_windows(fitting_texts(texts), tokenizer, settings.tokens, _WINDOW)
    record: dict[str, Any] = {
        "source": model.name,
        "text": [path.name for path in texts] or ["docstrings of the standard library (PSF-2.0)"],
        "fitted_tokens": windows.numel(),
        **asdict(settings),
    }
    key = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    started = time.process_time()
    fitted = list(fit_layers(load_network(checkpoint), windows, settings, out / "fit" / key))
    counts, factors = calibrate(
        [layer.logits for layer in fitted],
        [layer.errors.tolist() for layer in fitted],
        settings.mean,
        settings.mass,
        settings.minimum,
    )
    layers = [
        SplitLayer(layer.groups, layer.router * factor)
        for layer, factor in zip(fitted, factors, strict=True)
    ]
    record |= {
        "cpu_seconds": round(time.process_time() - started, 1),
        "experts_by_layer": counts,
        "error_with_half": [round(float(one.errors[settings.experts // 2]), 6) for one in fitted],
    }
    file = gguf_file_of(model)
    definition = read_tokenizer_files(model) if file is None else read_gguf_tokenizer(file)
    config = split_config(description, settings.shared, settings.experts, model)
    write_folder(out, config, split_tensors(checkpoint, layers, dtype), definition, record)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m r1_runtime.conversion.mixture", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--model", required=True, help="checkpoint folder, GGUF file, or bundled:NAME")
    add("--out", type=Path, required=True, help="folder of the new checkpoint")
    add("--experts", type=int, default=24, help="experts of each layer (default: 24)")
    add("--shared", type=int, default=768, help="neurons that always run (default: 768)")
    add("--tokens", type=int, default=12288, help="tokens of text to fit with (default: 12288)")
    add("--steps", type=int, default=400, help="steps of each router's fit (default: 400)")
    add("--seed", type=int, default=0, help="of clusters and batches (default: 0)")
    add("--mass", type=float, default=0.9, help="mass at which --mean experts run (default: 0.9)")
    add("--mean", type=float, help="mean number of experts at this mass (default: half of them)")
    add("--minimum", type=int, default=2, help="experts of each layer at least (default: 2)")
    add("--text", type=Path, action="append", default=[], help="text file; repeat for several")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the new weights")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(given.threads)
    settings = Settings(
        given.experts,
        given.shared,
        given.tokens,
        given.steps,
        given.seed,
        given.mass,
        given.experts / 2 if given.mean is None else given.mean,
        given.minimum,
    )
    try:
        record = convert(
            resolve_model(given.model), given.out, settings, given.text, getattr(torch, given.dtype)
        )
    except (ModelLoadError, ValueError, OSError) as error:
        raise SystemExit(f"conversion: {error}") from error
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
