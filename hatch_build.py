"""Build hook of the package: compiles the runtime's native library into the wheel.

An editable install gets the variant of this machine, a wheel gets all variants of its architecture.
Without a C++ compiler the wheel has no native library, and the runtime serves with its reference
backend.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_LIBRARIES = "runtime/r1_runtime/native/lib/*.so"


class NativeLibraryHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the libraries to the wheel and gives it the platform's tag."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(Path(self.root) / "runtime"))
        from r1_runtime.native.build import build, compiler
        from r1_runtime.native.variants import VARIANTS, supported_variants

        machine = platform.machine()
        every = [name for name, (needs, _, _) in VARIANTS.items() if needs == machine]
        wanted = every if version == "standard" else list(supported_variants()[:1])
        if compiler() is None:
            self.app.display_warning(
                "No C++ compiler: the runtime's native library is not built. Fix: install g++."
            )
            return
        build(wanted)
        build_data["artifacts"].append(_LIBRARIES)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"
