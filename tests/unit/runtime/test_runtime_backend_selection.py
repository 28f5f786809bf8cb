"""Choice of backend, device, packed form and cache type, and the options that exclude each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory_checkpoint import MemoryCheckpoint, description, grouped
from r1_runtime.backends.cpu.backend import Codecs
from r1_runtime.backends.cpu.library import CacheType, Codec, NativeLibraryMissing
from r1_runtime.backends.selection import BackendChoice, choose_backend
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.errors import OptionError

OUTPUT = "layers.0.self_attn.o_proj.weight"


def checkpoint(encoding: Encoding = Encoding.BF16) -> MemoryCheckpoint:
    """Weights whose first output projection has an encoding; its values are not read."""
    one = MemoryCheckpoint(description(grouped(), layers=1))
    shape = one.weights[OUTPUT].shape
    one.stored[OUTPUT] = StoredTensor(OUTPUT, shape, encoding, np.empty(0, np.uint8))
    return one


def missing() -> object:
    raise NativeLibraryMissing("no native library for x86_64; build it with: ...")


def choose(
    encoding: Encoding = Encoding.BF16,
    *,
    gpu: bool = False,
    triton: bool = True,
    torch: bool = True,
    library: bool = True,
    **options: Any,
) -> BackendChoice:
    return choose_backend(
        checkpoint(encoding),
        native=object if library else missing,
        has_gpu=lambda: gpu,
        has_triton=lambda: triton,
        has_torch=lambda: torch,
        **options,
    )


def test_native_backend_keeps_the_stored_precision_by_default() -> None:
    choice = choose()
    assert (choice.backend, choice.device) == ("cpu", "cpu")
    assert choice.codecs == Codecs(None, None, None, None)
    assert choice.reasons == (
        "The native CPU backend serves.",
        "Weights keep their stored precision: BF16 is packed as bfloat16.",
        "The cache stores float16.",
    )


def test_reason_names_the_packed_form_of_a_k_quant() -> None:
    assert "Q6_K is packed as int8" in choose(Encoding.Q6_K).reasons[1]
    assert "Q4_K is packed as int4_min" in choose(Encoding.Q4_K).reasons[1]


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [
        ("float32", Codec.FLOAT32),
        ("float16", Codec.FLOAT16),
        ("bfloat16", Codec.BFLOAT16),
    ],
)
def test_dtype_is_the_packed_form_of_every_matrix(dtype: str, codec: Codec) -> None:
    choice = choose(dtype=dtype)
    assert choice.codecs == Codecs(codec, codec, codec, codec)
    assert f"packed as {codec.name.lower()} because of --dtype" in choice.reasons[1]


@pytest.mark.parametrize(
    ("quantization", "codec"), [("int8", Codec.INT8), ("int4", Codec.INT4_MIN)]
)
def test_quantization_takes_precedence_over_the_dtype(quantization: str, codec: Codec) -> None:
    choice = choose(quantization=quantization, dtype="float32")
    assert choice.codecs == Codecs(codec, codec, codec, Codec.INT8)
    assert "because of --quantization" in choice.reasons[1]


def test_int4_keeps_embedding_and_output_head_in_8_bits() -> None:
    choice = choose(quantization="int4")
    assert choice.codecs.embedding is Codec.INT8
    assert "Embedding and output head are packed as int8." in choice.reasons


@pytest.mark.parametrize(
    ("encoding", "options", "cache"),
    [
        (Encoding.F32, {}, CacheType.FLOAT32),
        (Encoding.BF16, {}, CacheType.FLOAT16),
        (Encoding.Q4_K, {}, CacheType.FLOAT16),
        (Encoding.BF16, {"dtype": "float32"}, CacheType.FLOAT32),
        (Encoding.F32, {"dtype": "bfloat16"}, CacheType.FLOAT16),
        (Encoding.F32, {"quantization": "int8"}, CacheType.FLOAT16),
        (Encoding.F32, {"cache_dtype": "bfloat16"}, CacheType.BFLOAT16),
        (Encoding.BF16, {"cache_dtype": "float32"}, CacheType.FLOAT32),
    ],
)
def test_cache_is_float16_unless_the_weights_are_float32_or_an_option_names_it(
    encoding: Encoding, options: dict[str, Any], cache: CacheType
) -> None:
    choice = choose(encoding, **options)
    assert choice.cache_type is cache
    assert choice.reasons[-1] == f"The cache stores {cache.name.lower()}."


def test_missing_native_library_selects_the_reference_backend_with_the_reason() -> None:
    choice = choose(library=False)
    assert (choice.backend, choice.device, choice.dtype) == ("reference", "cpu", "float32")
    assert choice.reasons[0].startswith("The reference backend serves, several times slower: no na")
    assert choice.reasons[1] == "Weights and cache are float32, computed by torch."


def test_missing_native_library_is_an_error_where_an_option_requires_it() -> None:
    with pytest.raises(OptionError, match="--backend cpu: no native library"):
        choose(library=False, backend="cpu")


def test_reference_backend_is_selected_by_its_name() -> None:
    choice = choose(backend="reference", dtype="bfloat16")
    assert (choice.backend, choice.device, choice.dtype) == ("reference", "cpu", "bfloat16")
    assert choice.reasons[0] == "The reference backend serves because of --backend."


@pytest.mark.parametrize(
    ("options", "device"),
    [({}, "cuda"), ({"device": "cuda:1"}, "cuda:1"), ({"backend": "reference"}, "cuda")],
)
def test_gpu_computes_in_bfloat16(options: dict[str, Any], device: str) -> None:
    choice = choose(gpu=True, **options)
    assert (choice.device, choice.dtype) == (device, "bfloat16")
    assert f"serves on {device}" in choice.reasons[0]


@pytest.mark.parametrize("options", [{"backend": "cpu"}, {"device": "cpu"}])
def test_gpu_stays_unused_where_an_option_selects_the_cpu(options: dict[str, Any]) -> None:
    assert choose(gpu=True, **options).device == "cpu"


def test_native_backend_and_a_gpu_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="--backend cpu excludes --device cuda"):
        choose(backend="cpu", device="cuda")


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cudax", ""])
def test_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(
        OptionError, match=f"--device {device} does not exist. Fix: auto, cpu, cuda"
    ):
        choose(device=device)


@pytest.mark.parametrize(
    "place", [{"backend": "reference"}, {"gpu": True, "triton": False}, {"library": False}]
)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"quantization": "int8"}, "--quantization int8"),
        ({"cache_dtype": "float16"}, "--kv-cache-dtype float16"),
        ({"dtype": "float16"}, "--dtype float16"),
    ],
)
def test_option_of_the_native_backend_is_refused_by_the_reference_backend(
    place: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(OptionError, match=f"{named} needs the native CPU backend"):
        choose(**place, **options)


@pytest.mark.parametrize(
    ("machine", "options", "expected"),
    [
        ({"gpu": True}, {}, ("cuda", "cuda")),
        ({"gpu": True}, {"ranks": 2}, ("reference", "cuda")),
        ({"gpu": True}, {"device": "cuda:1"}, ("cuda", "cuda:1")),
        ({"gpu": True}, {"device": "cpu"}, ("cpu", "cpu")),
        ({"gpu": True}, {"backend": "reference"}, ("reference", "cuda")),
        ({"gpu": True}, {"backend": "cpu"}, ("cpu", "cpu")),
        ({"gpu": True, "triton": False}, {}, ("reference", "cuda")),
        ({"gpu": False}, {}, ("cpu", "cpu")),
        ({"gpu": False}, {"backend": "reference"}, ("reference", "cpu")),
        ({"gpu": False, "library": False}, {}, ("reference", "cpu")),
    ],
)
def test_the_fastest_backend_of_the_machine_serves_unless_an_option_excludes_it(
    machine: dict[str, Any], options: dict[str, Any], expected: tuple[str, str]
) -> None:
    chosen = choose(**machine, **options)
    assert (chosen.backend, chosen.device) == expected


def test_the_reasons_name_the_cuda_backend_and_its_data_type() -> None:
    assert choose(gpu=True).reasons == (
        "The CUDA backend serves on cuda (Triton kernels, CUDA graphs).",
        "Weights and cache are bfloat16, computed by torch.",
    )
    packed = choose(gpu=True, quantization="int4")
    assert packed.int4_experts
    assert "packed to int4 because of --quantization" in packed.reasons[-1]


def test_the_reasons_name_the_package_that_the_gpu_kernels_lack() -> None:
    assert "triton is not installed" in choose(gpu=True, triton=False).reasons[0]


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        ({"gpu": False}, {"backend": "cuda"}, "--backend cuda needs an NVIDIA GPU"),
        ({"gpu": True}, {"backend": "cuda", "device": "cpu"}, "--backend cuda needs an NVIDIA GPU"),
        ({"gpu": True, "triton": False}, {"backend": "cuda"}, "needs the package triton"),
        (
            {"gpu": True},
            {"quantization": "int8"},
            "needs the native CPU backend, but the CUDA backend serves",
        ),
        ({"gpu": True}, {"backend": "cuda", "ranks": 2}, "--backend cuda computes a model in one"),
        ({"gpu": True}, {"cache_dtype": "float16"}, "the CUDA backend serves"),
        ({"gpu": True}, {"dtype": "float16"}, "the CUDA backend serves"),
        (
            {"gpu": True},
            {"backend": "reference", "quantization": "int4"},
            "needs the native CPU backend or the CUDA backend",
        ),
    ],
)
def test_options_that_exclude_each_other_or_the_machine_are_refused(
    machine: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        choose(**machine, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "reference"}, "--backend reference needs torch.* or --backend cpu"),
        ({"gpu": True}, "the GPU cuda needs torch.* or --device cpu"),
        ({"gpu": True, "triton": False}, "the GPU cuda needs torch.* or --device cpu"),
        ({"device": "cuda:1"}, "the GPU cuda:1 needs torch"),
        ({"ranks": 4, "device": "cpu"}, "a model over 4 ranks needs torch.* or one rank"),
        ({"library": False}, "the reference backend needs torch.*no native library for x86_64"),
    ],
)
def test_a_backend_on_torch_names_the_extra_where_torch_is_missing(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as refused:
        choose(torch=False, **options)
    assert "r1-inference-operator[runtime,torch]" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_native_backend_needs_no_torch() -> None:
    assert choose(torch=False).backend == "cpu"
    assert choose(torch=False, gpu=True, device="cpu").backend == "cpu"
