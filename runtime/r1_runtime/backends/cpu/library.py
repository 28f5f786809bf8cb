"""C interface of the native library: structures, enumerations, and the choice of the variant.

The library is built once per instruction set. The best variant that this processor supports is loaded.
"""

from __future__ import annotations

import ctypes
import enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from r1_runtime.errors import OptionError
from r1_runtime.native.variants import FOLDER, supported_variants

INTERFACE_VERSION = 3


class NativeLibraryMissing(Exception):
    """No variant of the native library for this processor is installed."""


class Source(enum.IntEnum):
    """Stored encodings that the library reads; `pack.h` has the same numbers."""

    F32 = 0
    BF16 = 1
    F16 = 2
    F8_E4M3 = 3
    Q8_0 = 4
    Q4_0 = 5
    Q4_1 = 6


class Codec(enum.IntEnum):
    """Packed forms of a matrix; `matrix.h` has the same numbers."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2
    FLOAT8 = 3
    INT8 = 4
    INT4 = 5
    INT4_MIN = 6

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return {0: 32, 1: 16, 2: 16, 3: 8.25, 4: 8.5, 5: 4.5, 6: 5}[self.value]


class CacheType(enum.IntEnum):
    """Element type of the cache."""

    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2
    INT8 = 3
    INT4 = 4
    FLOAT8 = 5


class Part(enum.IntEnum):
    """Place of a tensor in the network; `interface.cpp` has the same numbers."""

    EMBEDDING = 0
    HEAD = 1
    FINAL_NORM = 2
    ATTENTION_NORM = 3
    FEED_FORWARD_NORM = 4
    INPUT = 5
    INPUT_BIAS = 6
    Q_NORM = 7
    K_NORM = 8
    Q_A_NORM = 9
    KV_A_NORM = 10
    Q_B = 11
    KV_B = 12
    OUTPUT = 13
    OUTPUT_BIAS = 14
    GATE = 15
    UP = 16
    DOWN = 17
    ROUTER = 18
    ROUTER_CORRECTION = 19
    EXPERT_GATE = 20
    EXPERT_UP = 21
    EXPERT_DOWN = 22
    SHARED_GATE = 23
    SHARED_UP = 24
    SHARED_DOWN = 25
    ROPE = 26
    DRAFT_EMBEDDING_NORM = 27
    DRAFT_STATE_NORM = 28
    DRAFT_PROJECTION = 29
    DRAFT_HEAD_NORM = 30


_INT = ctypes.c_int32
_FLOAT = ctypes.c_float


def _fields(kind: type[Any], names: str) -> list[tuple[str, type[Any]]]:
    return [(name, kind) for name in names.split()]


class Shape(ctypes.Structure):
    """`R1Shape`: the network and its cache."""

    _fields_ = (
        *_fields(_INT, "vocab hidden layers max_positions block_size blocks cache_type"),
        *_fields(_FLOAT, "norm_eps"),
        *_fields(_INT, "tied_head"),
    )


class LayerShape(ctypes.Structure):
    """`R1LayerShape`: one layer."""

    _fields_ = (
        *_fields(_INT, "latent heads kv_heads head_dim qk_norm q_lora kv_lora nope v_dim"),
        *_fields(_INT, "rope_dim interleaved"),
        *_fields(_FLOAT, "softmax_scale inner_eps cos_sin_scale"),
        *_fields(_INT, "inner experts experts_per_token expert_inner shared_inner"),
        *_fields(_INT, "softmax_scores normalise groups top_groups group_maximum"),
        *_fields(_FLOAT, "expert_scale"),
        *_fields(_INT, "unit_weights"),
    )


class Plan(ctypes.Structure):
    """`R1Plan`: inputs and outputs of a step."""

    _fields_ = (
        *_fields(_INT, "rows sequences outputs"),
        *_fields(
            ctypes.c_void_p,
            "tokens positions query_starts context_lengths block_starts blocks output_rows"
            " temperatures top_p min_p top_k targets top_counts masks seeds counters"
            " adjust_starts adjust_tokens adjust_values mask_bits",
        ),
        *_fields(_INT, "mask_words"),
        *_fields(ctypes.c_void_p, "out_tokens out_top_tokens out_logprobs out_top_logprobs"),
        *_fields(_INT, "top_width"),
        *_fields(ctypes.c_void_p, "out_logits"),
        *_fields(_INT, "hidden_count"),
        *_fields(ctypes.c_void_p, "hidden_rows out_hidden next_tokens out_drafts prompt_lengths"),
    )


class Sparsity(ctypes.Structure):
    """`R1Sparsity`: what attention reads of the cache."""

    _fields_ = (
        *_fields(ctypes.c_double, "keep drop_low drop_high mass spread"),
        *_fields(_INT, "from_context sink_units last_units window_units correct prompts"),
        *_fields(ctypes.c_char_p, "modes"),
    )


@cache
def load_library() -> ctypes.CDLL:
    """The best variant for this processor.

    Raises:
        NativeLibraryMissing: none is installed; the reason says how to build it.
        OptionError: the installed library is of another version.
    """
    for variant in supported_variants():
        path = FOLDER / f"r1_native_{variant}.so"
        if path.is_file():
            return _open(path)
    raise NativeLibraryMissing(
        f"no native library for {', '.join(supported_variants()) or 'this processor'} in {FOLDER};"
        " build it with: python -m r1_runtime.native.build"
    )


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.r1_create.restype = ctypes.c_void_p
    library.r1_create.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.r1_error.restype = ctypes.c_char_p
    library.r1_error.argtypes = [ctypes.c_void_p]
    library.r1_destroy.argtypes = [ctypes.c_void_p]
    library.r1_destroy.restype = None
    library.r1_set_threads.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.r1_set_threads.restype = None
    library.r1_add_layer.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    library.r1_put.argtypes = [
        ctypes.c_void_p,
        *[ctypes.c_int] * 9,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    library.r1_set_sparsity.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    library.r1_set_sparsity.restype = None
    library.r1_take_read_slots.argtypes = [ctypes.c_void_p] * 3
    library.r1_take_read_slots.restype = None
    library.r1_finish.argtypes = [ctypes.c_void_p]
    library.r1_release_cache.argtypes = [ctypes.c_void_p]
    library.r1_release_cache.restype = None
    library.r1_allocate_cache.argtypes = [ctypes.c_void_p]
    library.r1_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    _declare_experts(library)
    if library.r1_version() != INTERFACE_VERSION:
        raise OptionError(
            f"{path.name} has interface version {library.r1_version()}, this package needs"
            f" {INTERFACE_VERSION}. Fix: python -m r1_runtime.native.build"
        )
    return library


def _declare_experts(library: ctypes.CDLL) -> None:
    model, pointer, number = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
    arguments: dict[str, list[Any]] = {
        "r1_set_expert_gate": [model, ctypes.c_float, number, number],
        "r1_expert_uses": [model, number, pointer],
        "r1_open_expert_file": [model, ctypes.c_char_p],
        "r1_store_expert": [model, number, number, number, number],
        "r1_set_tiering": [model, number, number],
        "r1_expert_totals": [model, pointer],
        "r1_evict_experts": [model],
    }
    for name, types in arguments.items():
        getattr(library, name).argtypes = types
    for name in (
        "r1_set_expert_gate",
        "r1_set_tiering",
        "r1_expert_uses",
        "r1_expert_totals",
        "r1_evict_experts",
    ):
        getattr(library, name).restype = None


def address(array: np.ndarray[Any, Any] | None) -> int | None:
    """Address of a contiguous array, or None."""
    return None if array is None else int(array.ctypes.data)
