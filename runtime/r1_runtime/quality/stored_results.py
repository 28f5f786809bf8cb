"""Evaluations kept in a folder: the dense baseline of many comparisons is computed once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from r1_runtime.backends.cpu.library import NativeLibraryMissing, load_library
from r1_runtime.config import R1Config
from r1_runtime.quality.configuration import load_configuration
from r1_runtime.quality.evaluation import evaluate
from r1_runtime.quality.evaluation_set import EvaluationSet
from r1_runtime.quality.progress import Progress
from r1_runtime.quality.result import QualityResult, read_result
from r1_runtime.quality.size import EvaluationSize
from r1_runtime.server.loading import open_and_choose
from r1_runtime.server.options import resolve_model, serve_options

FOLDER = Path("out/quality/results")


def evaluate_stored(
    config: R1Config,
    texts: EvaluationSet,
    size: EvaluationSize,
    *,
    folder: Path | None = FOLDER,
    progress: Progress = lambda _: None,
) -> QualityResult:
    """The stored result of the same evaluation, or a new one, which is then stored.

    Args:
        config: what is evaluated.
        texts: evaluation set.
        size: of the evaluation.
        folder: of stored results; None stores and reads nothing.
        progress: called at the beginning of each part.

    Raises:
        ModelLoadError: the checkpoint does not load.
        OptionError: an option does not fit the model or this machine.
    """
    path = None if folder is None else folder / f"{_key(config, texts, size)}.json"
    if path is not None:
        try:
            return read_result(path)
        except (OSError, ValueError, KeyError):
            pass
    loaded = load_configuration(config, size)
    try:
        result = evaluate(loaded, texts, progress)
    finally:
        loaded.close()
    if path is not None:
        result.write(path)
    return result


def _key(config: R1Config, texts: EvaluationSet, size: EvaluationSize) -> str:
    """Digest of all that changes a result: options, what they choose, model file, texts, native code."""
    _, _, choice = open_and_choose(serve_options(config))
    model = resolve_model(config.base_model)
    files = sorted(model.rglob("*")) if model.is_dir() else [model]
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    parts = [
        *(config.arguments(), str(choice.codecs), choice.cache_type.name),
        *(stamps, texts.identity(), asdict(size), _native_digest()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _native_digest() -> str:
    """Digest of the native library; empty without one."""
    try:
        return hashlib.sha256(Path(load_library()._name).read_bytes()).hexdigest()
    except NativeLibraryMissing:
        return ""
