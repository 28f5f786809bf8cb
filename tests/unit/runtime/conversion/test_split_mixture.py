"""A dense Llama that was split into experts: exact while all run, and near it with the best ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paged_steps import Row, step_plan
from r1_runtime.architecture.description import MixtureOfExperts
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import Codec
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.conversion.mixture import Settings, convert
from r1_runtime.errors import ModelLoadError
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.tokenizer.open import open_tokenizer
from tiny_checkpoints import write_llama, write_qwen3

SETTINGS = Settings(
    experts=6, shared=10, tokens=1024, steps=30, seed=1, mass=0.9, mean=3.0, minimum=1
)
PLAIN: dict[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
    "intermediate_size": 40,
}


def write_source(folder: Path) -> Path:
    write_llama(folder, **PLAIN, max_position_embeddings=1024)
    return folder


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    source = write_source(tmp_path_factory.mktemp("source"))
    out = tmp_path_factory.mktemp("split")
    convert(source, out, SETTINGS, [], torch.float32)
    return source, out


def logits(
    folder: Path, gate: DynamicGate | None = None
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    native = CpuBackend(
        open_checkpoint(folder),
        codecs=Codecs(*[Codec.FLOAT32] * 4),
        blocks=8,
        block_size=16,
        gate=gate,
    )
    tokens = list(range(1, 61))
    return native.step_with_logits(step_plan([Row(tokens, 0, 60, range(4))]))[1]


def test_the_split_model_equals_its_source_while_all_experts_run(split: tuple[Path, Path]) -> None:
    source, out = split
    description = open_checkpoint(out).description
    experts = description.layers[0].feed_forward
    assert isinstance(experts, MixtureOfExperts)
    assert (experts.experts, experts.experts_per_token, experts.inner) == (6, 6, 5)
    np.testing.assert_allclose(logits(out), logits(source), atol=1e-4)
    tokens = torch.arange(1, 61)[None]
    with torch.inference_mode():
        expected = load_network(open_checkpoint(source))(tokens)
        np.testing.assert_allclose(load_network(open_checkpoint(out))(tokens), expected, atol=1e-4)


def test_more_experts_come_nearer_to_the_source(split: tuple[Path, Path]) -> None:
    source, out = split
    whole = logits(source)
    errors = [
        float(np.abs(logits(out, DynamicGate(1.0, count, count)) - whole).mean())
        for count in (1, 3, 5, 6)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_the_mass_of_the_fit_needs_the_wanted_mean_of_experts(split: tuple[Path, Path]) -> None:
    _, out = split
    native = CpuBackend(
        open_checkpoint(out),
        codecs=Codecs(*[Codec.FLOAT32] * 4),
        blocks=64,
        block_size=16,
        gate=DynamicGate(SETTINGS.mass, SETTINGS.minimum, 6),
    )
    tokens = np.random.default_rng(0).integers(1, 200, 512).tolist()
    native.step(step_plan([Row(tokens, 0, 512, range(32))]))
    assert abs(native.expert_totals().mean_experts - SETTINGS.mean) < 1


def test_the_folder_has_the_tokenizer_of_the_source_and_how_it_was_made(
    split: tuple[Path, Path],
) -> None:
    source, out = split
    vocab = open_checkpoint(out).description.vocab_size
    text = "def read(path): a pod is scheduled"
    assert open_tokenizer(out, vocab).encode(text) == open_tokenizer(source, vocab).encode(text)
    record = json.loads((out / "conversion.json").read_text())
    assert record["experts"] == 6
    assert record["fitted_tokens"] == 1024
    assert len(record["experts_by_layer"]) == len(record["error_with_half"])


def test_an_interrupted_conversion_continues_with_the_finished_layers(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    out = tmp_path / "out"
    convert(source, out, SETTINGS, [], torch.float32)
    first = (out / "model.safetensors").read_bytes()
    finished = next(out.glob("fit/*/layer-000.safetensors"))
    stamp = finished.stat().st_mtime_ns
    next(out.glob("fit/*/layer-001.safetensors")).unlink()
    convert(source, out, SETTINGS, [], torch.float32)
    assert finished.stat().st_mtime_ns == stamp
    assert (out / "model.safetensors").read_bytes() == first


def test_a_model_that_is_no_plain_dense_llama_is_refused(tmp_path: Path) -> None:
    write_qwen3(tmp_path / "norms")
    with pytest.raises(ModelLoadError, match="cannot be split"):
        convert(tmp_path / "norms", tmp_path / "out", SETTINGS, [], torch.float32)
    write_llama(tmp_path / "scaled")
    with pytest.raises(ModelLoadError, match="rotary embedding is scaled"):
        convert(tmp_path / "scaled", tmp_path / "out", SETTINGS, [], torch.float32)


def test_sizes_that_do_not_divide_are_an_error_that_names_the_options(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    settings = Settings(7, 10, 1024, 1, 0, 0.9, 3.0, 1)
    with pytest.raises(ValueError, match=r"--shared 10: 40 neurons .* --experts 7"):
        convert(source, tmp_path / "out", settings, [], torch.float32)
