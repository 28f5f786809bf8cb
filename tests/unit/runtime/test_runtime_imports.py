"""What a serving process imports: torch and other large packages cost seconds and memory."""

from __future__ import annotations

import json
import subprocess
import sys

_SERVE = """
import json, sys, time
import r1_runtime.serve
from r1_runtime.server import app, metrics, served_model, service
from r1_runtime.server.loading import StartupTimes, load
options = r1_runtime.serve.parse_options(
    ["--model-path", "bundled:demo", "--threads", "1", "--speculation", "ngram"]
)
loaded = load(options, lambda outputs, state: None, StartupTimes({}, time.perf_counter()))
loaded.engine.stop(5)
print(json.dumps(sorted(sys.modules)))
"""
_OPTIONS = "import json, sys, r1_runtime.server.options; print(json.dumps(sorted(sys.modules)))"


def modules(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_serving_a_safetensors_model_imports_no_large_package() -> None:
    loaded = modules(_SERVE)
    assert "r1_runtime.backends.cpu.backend" in loaded
    excluded = {"torch", "transformers", "gguf", "matplotlib", "scipy", "pandas", "safetensors"}
    assert not loaded & excluded
    assert not {"llguidance", "prometheus_client.multiprocess"} & loaded
    assert "r1_runtime.server.api.openapi" not in loaded  # with the first request for it


def test_an_option_error_needs_no_numpy() -> None:
    assert "numpy" not in modules(_OPTIONS)
