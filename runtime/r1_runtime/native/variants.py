"""Variants of the native library by instruction set, best first."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "lib"

# Compiler flags and the processor flags (as in /proc/cpuinfo) that the variant needs.
VARIANTS: dict[str, tuple[str, tuple[str, ...], frozenset[str]]] = {
    "x86_64_v4": (
        "x86_64",
        ("-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=256"),
        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}),
    ),
    "x86_64_v3": ("x86_64", ("-march=x86-64-v3",), frozenset({"avx2", "fma", "f16c", "bmi2"})),
    "x86_64": ("x86_64", ("-march=x86-64",), frozenset()),
    "aarch64": ("aarch64", (), frozenset()),
}


@cache
def processor_flags() -> frozenset[str]:
    """Flags of the first processor; empty where /proc/cpuinfo is missing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def supported_variants() -> tuple[str, ...]:
    """Names of the variants that this processor runs, best first."""
    machine, flags = platform.machine(), processor_flags()
    return tuple(
        name for name, (needs, _, wants) in VARIANTS.items() if needs == machine and wants <= flags
    )
