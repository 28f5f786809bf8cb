"""Choice of the backend by options and machine, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from memory_checkpoint import MemoryCheckpoint, description, grouped
from r1_runtime.backends.cpu.library import NativeLibraryMissing
from r1_runtime.backends.selection import BackendChoice, choose_backend
from r1_runtime.errors import OptionError


def choice(*, gpu: bool, triton: bool = True, native: bool = True, **options: Any) -> BackendChoice:
    def load() -> None:
        if not native:
            raise NativeLibraryMissing("no library")

    return choose_backend(
        MemoryCheckpoint(description(grouped())),
        native=load,
        has_gpu=lambda: gpu,
        has_triton=lambda: triton,
        **options,
    )


@pytest.mark.parametrize(
    ("machine", "options", "expected"),
    [
        ({"gpu": True}, {}, ("cuda", "cuda")),
        ({"gpu": True}, {"device": "cuda:1"}, ("cuda", "cuda:1")),
        ({"gpu": True}, {"device": "cpu"}, ("cpu", "cpu")),
        ({"gpu": True}, {"backend": "reference"}, ("reference", "cuda")),
        ({"gpu": True}, {"backend": "cpu"}, ("cpu", "cpu")),
        ({"gpu": True, "triton": False}, {}, ("reference", "cuda")),
        ({"gpu": False}, {}, ("cpu", "cpu")),
        ({"gpu": False}, {"backend": "reference"}, ("reference", "cpu")),
        ({"gpu": False, "native": False}, {}, ("reference", "cpu")),
    ],
)
def test_the_fastest_backend_of_the_machine_serves_unless_an_option_excludes_it(
    machine: dict[str, Any], options: dict[str, Any], expected: tuple[str, str]
) -> None:
    chosen = choice(**machine, **options)
    assert (chosen.backend, chosen.device) == expected


def test_the_reasons_name_the_cuda_backend_and_its_data_type() -> None:
    assert choice(gpu=True).reasons == (
        "The CUDA backend serves on cuda (Triton kernels, CUDA graphs).",
        "Weights and cache are bfloat16, computed by torch.",
    )
    packed = choice(gpu=True, quantization="int4")
    assert packed.int4_experts
    assert "packed to int4 because of --quantization" in packed.reasons[-1]


def test_the_reasons_name_the_package_that_the_gpu_kernels_lack() -> None:
    assert "triton is not installed" in choice(gpu=True, triton=False).reasons[0]


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        ({"gpu": False}, {"backend": "cuda"}, "--backend cuda needs an NVIDIA GPU"),
        ({"gpu": True}, {"backend": "cuda", "device": "cpu"}, "--backend cuda needs an NVIDIA GPU"),
        ({"gpu": True, "triton": False}, {"backend": "cuda"}, "needs the package triton"),
        ({"gpu": True}, {"quantization": "int8"}, "--quantization int8 has no CUDA kernel"),
        ({"gpu": True}, {"backend": "cpu", "device": "cuda"}, "excludes --device cuda"),
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
        choice(**machine, **options)
