"""llama.cpp (package `xllamacpp`) as a peer, through its HTTP server on the loopback address."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest


class LlamaCpp:
    """A model in llama.cpp, on one thread: more of them spin on a busy machine."""

    def __init__(self, model: Path, context: int = 512) -> None:
        peer: Any = pytest.importorskip("xllamacpp", reason="the peer xllamacpp is not installed")
        parameters = peer.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.n_gpu_layers = 0
        parameters.cache_type_k = parameters.cache_type_v = peer.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = peer.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.warmup = False
        parameters.verbosity = 0
        self._server = peer.Server(parameters)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of text; with `special`, names of control tokens become these tokens."""
        body = {"content": text, "parse_special": special, "add_special": False}
        tokens: list[int] = self._post("/tokenize", body)["tokens"]
        return tokens

    def greedy(self, tokens: list[int], count: int) -> list[tuple[int, float]]:
        """The `count` most probable next tokens with their log-probabilities."""
        body = {"prompt": tokens, "n_predict": count, "temperature": 0, "n_probs": 1}
        body |= {"ignore_eos": False, "cache_prompt": False, "samplers": ["temperature"]}
        steps = self._post("/completion", body)["completion_probabilities"]
        return [(step["id"], step["logprob"]) for step in steps]

    def _post(self, path: str, body: dict[str, object]) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
