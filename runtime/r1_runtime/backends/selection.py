"""Choice of backend, device, packed form of the weights and cache type, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from r1_runtime.backends.cpu.backend import Codecs, stored_codec
from r1_runtime.backends.cpu.library import (
    CacheType,
    Codec,
    NativeLibraryMissing,
    load_library,
)
from r1_runtime.backends.torch_package import INSTALL_TORCH, torch_installed, torch_missing
from r1_runtime.checkpoint.source import Checkpoint, Encoding
from r1_runtime.errors import OptionError
from r1_runtime.sparsity.policy import DynamicSparseAttention

_DTYPES = {"float32": Codec.FLOAT32, "bfloat16": Codec.BFLOAT16, "float16": Codec.FLOAT16}
_QUANTIZATIONS = {"int8": Codec.INT8, "int4": Codec.INT4_MIN}
# SmolLM2-135M loses 7.4 % of perplexity with its embedding and output head in 4 bits, 0.4 % without.
_HEADS = {Codec.INT4_MIN: Codec.INT8}
_CACHES = {
    "float32": CacheType.FLOAT32,
    "float16": CacheType.FLOAT16,
    "bfloat16": CacheType.BFLOAT16,
    "int8": CacheType.INT8,
    "int4": CacheType.INT4,
    "fp8": CacheType.FLOAT8,
}
_NVIDIA = Path("/dev/nvidiactl")
_DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")


def _triton_installed() -> bool:
    return find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """What computes the model.

    Attributes:
        backend: `cpu` (native), `cuda` (torch and Triton) or `reference` (torch).
        device: `cpu`, `cuda` or `cuda:N`.
        codecs: packed forms of the native backend; None keeps the stored precision.
        dtype: data type of the computation in torch: `float32` or `bfloat16`.
        cache_type: element type of the native backend's cache.
        int4_experts: the CUDA backend packs the routed experts to 4 bits.
        sparsity: policy of sparse attention; None for dense attention.
        reasons: one sentence per choice, for the log and `--explain-plan`.
    """

    backend: str
    device: str
    codecs: Codecs
    dtype: str
    cache_type: CacheType
    int4_experts: bool
    reasons: tuple[str, ...]
    sparsity: DynamicSparseAttention | None = None


def choose_backend(
    checkpoint: Checkpoint,
    *,
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    cache_dtype: str = "auto",
    sparsity: DynamicSparseAttention | None = None,
    ranks: int = 1,
    native: Callable[[], object] = load_library,
    has_gpu: Callable[[], bool] = _NVIDIA.exists,
    has_triton: Callable[[], bool] = _triton_installed,
    has_torch: Callable[[], bool] = torch_installed,
) -> BackendChoice:
    """Choose what computes the model.

    Args:
        checkpoint: the model.
        backend: `auto`, `cpu`, `cuda` or `reference`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` keeps the stored precision.
        quantization: `none`, or the packed form of all matrices but the routers: `int8`, `int4`, which
            keeps embedding and output head in 8 bits.
        cache_dtype: `auto`, `float32`, `float16`, `bfloat16`, `int8`, `int4` or `fp8`.
        sparsity: policy of sparse attention, which the CUDA backend and several ranks do not have.
        ranks: processes that compute the model together; only the reference backend divides it.
        native: raises `NativeLibraryMissing` where the native library cannot be loaded.
        has_gpu: whether this machine has an NVIDIA device.
        has_triton: whether the kernel compiler of the CUDA backend is installed.
        has_torch: whether torch is installed.

    Raises:
        OptionError: the options exclude each other or what this machine has.
    """
    reasons: list[str] = []
    if ranks > 1:
        backend = _dividing(backend, ranks, reasons)
    chosen, where = _place(backend, device, native, has_gpu, has_triton, reasons)
    if chosen != "cpu":
        if not has_torch():
            raise _no_torch(backend, where, ranks, reasons[-1])
        _check_torch_options(chosen, dtype, quantization, cache_dtype)
    if sparsity is not None:
        _check_sparsity(chosen, ranks)
        reasons.append(f"Attention is sparse: {sparsity.describe()}.")
    stored = checkpoint.tensor("layers.0.self_attn.o_proj.weight").encoding
    codec = _QUANTIZATIONS.get(quantization, _DTYPES.get(dtype))
    torch_dtype = dtype if dtype in ("float32", "bfloat16") else "float32"
    if chosen != "cpu":
        if dtype == "auto" and where != "cpu":
            torch_dtype = "bfloat16"
        reasons += _torch_reasons(chosen, torch_dtype, stored, quantization)
    elif codec is None:
        packed = stored_codec(stored).name.lower()
        reasons.append(f"Weights keep their stored precision: {stored} is packed as {packed}.")
    else:
        option = "--quantization" if quantization != "none" else "--dtype"
        reasons.append(f"Weights are packed as {codec.name.lower()} because of {option}.")
        if codec in _HEADS:
            reasons.append(f"Embedding and output head are packed as {_HEADS[codec].name.lower()}.")
    cache = _cache_type(cache_dtype, codec, stored)
    if chosen == "cpu":
        reasons.append(f"The cache stores {cache.name.lower()}.")
    return BackendChoice(
        chosen,
        where,
        Codecs(codec, codec, codec, None if codec is None else _HEADS.get(codec, codec)),
        torch_dtype,
        cache,
        chosen == "cuda" and quantization == "int4",
        tuple(reasons),
        sparsity,
    )


def _dividing(backend: str, ranks: int, reasons: list[str]) -> str:
    """The backend that divides a model over ranks."""
    if backend not in ("auto", "reference"):
        raise OptionError(
            f"command line: --backend {backend} computes a model in one process, but {ranks} ranks are"
            " wanted. Fix: --backend reference, or no --tensor-parallel-size."
        )
    reasons.append("Only the reference backend divides a model over ranks.")
    return "reference"


def _no_torch(backend: str, where: str, ranks: int, reason: str) -> OptionError:
    """Refuse a backend on torch where it is not installed; `reason` is that of the choice."""
    if ranks > 1:
        return torch_missing(f"a model over {ranks} ranks", "one rank")
    if where != "cpu":
        return torch_missing(f"the GPU {where}", "--device cpu")
    if backend == "reference":
        return torch_missing("--backend reference", "--backend cpu")
    return torch_missing(
        "the reference backend", f"a native library for the CPU backend. {reason.rstrip('.')}"
    )


def _torch_reasons(chosen: str, dtype: str, stored: Encoding, quantization: str) -> Iterator[str]:
    if chosen == "cuda" and stored is Encoding.F8_E4M3:
        yield f"FP8 weights keep their stored blocks; all others are {dtype}, and so is the cache."
    else:
        yield f"Weights and cache are {dtype}, computed by torch."
    if quantization == "int4":
        yield "Routed experts that are not FP8 are packed to int4 because of --quantization."


def _place(
    backend: str,
    device: str,
    native: Callable[[], object],
    has_gpu: Callable[[], bool],
    has_triton: Callable[[], bool],
    reasons: list[str],
) -> tuple[str, str]:
    """Backend and device."""
    if _DEVICES.fullmatch(device) is None:
        raise OptionError(
            f"command line: --device {device} does not exist. Fix: auto, cpu, cuda or cuda:NUMBER."
        )
    gpu = device.startswith("cuda") or (device == "auto" and backend != "cpu" and has_gpu())
    if gpu and backend == "cpu":
        raise OptionError(
            f"command line: --backend cpu excludes --device {device}. Fix: --device cpu."
        )
    if gpu:
        return _on_gpu(backend, "cuda" if device == "auto" else device, has_triton, reasons)
    if backend == "cuda":
        raise OptionError(
            "command line: --backend cuda needs an NVIDIA GPU, and this machine has none or --device"
            " excludes it. Fix: --backend auto."
        )
    if backend == "reference":
        reasons.append("The reference backend serves because of --backend.")
        return "reference", "cpu"
    try:
        native()
    except NativeLibraryMissing as error:
        if backend == "cpu":
            raise OptionError(f"command line: --backend cpu: {error}") from error
        reasons.append(f"The reference backend serves, several times slower: {error}.")
        return "reference", "cpu"
    reasons.append("The native CPU backend serves.")
    return "cpu", "cpu"


def _check_torch_options(chosen: str, dtype: str, quantization: str, cache_dtype: str) -> None:
    """Refuse the options that a backend on torch does not have, instead of ignoring them."""
    packs = quantization == "none" or (chosen == "cuda" and quantization == "int4")
    lacking = {
        "--quantization": "" if packs else quantization,
        "--kv-cache-dtype": "" if cache_dtype == "auto" else cache_dtype,
        "--dtype": dtype if dtype == "float16" else "",
    }
    serving = {"cuda": "CUDA", "reference": "reference"}[chosen]
    for option, value in lacking.items():
        if value:
            others = " or the CUDA backend" if value == "int4" else ""
            raise OptionError(
                f"command line: {option} {value} needs the native CPU backend{others}, but the"
                f" {serving} backend serves. Fix: remove {option}, or use --backend cpu --device cpu."
            )


def _check_sparsity(chosen: str, ranks: int) -> None:
    """Refuse sparse attention where nothing computes it."""
    if chosen == "cuda" or ranks > 1:
        what = "the CUDA backend serves" if chosen == "cuda" else f"{ranks} ranks compute the model"
        raise OptionError(
            "command line: --attention-sparsity and --attention-window need the native or the reference"
            f" backend in one process, but {what}. Fix: --backend cpu --device cpu, or dense attention."
        )


def _on_gpu(
    backend: str, where: str, has_triton: Callable[[], bool], reasons: list[str]
) -> tuple[str, str]:
    if backend == "reference":
        reasons.append(f"The reference backend serves on {where} because of --backend.")
        return "reference", where
    if has_triton():
        reasons.append(f"The CUDA backend serves on {where} (Triton kernels, CUDA graphs).")
        return "cuda", where
    if backend == "cuda":
        raise OptionError(
            "command line: --backend cuda needs the package triton, which is not installed. Fix:"
            f" {INSTALL_TORCH}; torch's CUDA build brings triton."
        )
    reasons.append(
        f"The reference backend serves on {where}, several times slower: triton is not installed."
    )
    return "reference", where


def _cache_type(wanted: str, codec: Codec | None, stored: Encoding) -> CacheType:
    if wanted != "auto":
        return _CACHES[wanted]
    full = codec is Codec.FLOAT32 or (codec is None and stored is Encoding.F32)
    return CacheType.FLOAT32 if full else CacheType.FLOAT16
