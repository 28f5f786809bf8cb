"""GGUF models beside llama.cpp: the same tokens of text, and the same network from the same file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from llama_cpp import LlamaCpp
from numpy_forward import NumpyModel
from paged_steps import PagedDriver
from parity_cases import BACKENDS
from r1_bench.runtime.requantise import write_as
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.tokenizer.open import open_tokenizer
from r1_runtime.tokenizer.split_patterns import SPLIT_RULES
from smollm import smollm2_file
from tiny_gguf import LLAMA3, TINY_GGUFS, BytePairs, Pieces, write_tiny_gguf
from tiny_vocabularies import byte_level_merges, sentencepiece_pieces
from varied_texts import varied_texts

pytestmark = pytest.mark.reference

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "Water boils at a temperature of 100 degrees",
)


def _plain(count: int = 300) -> list[str]:
    """Texts without strings of control tokens, which are these tokens in a plain prompt."""
    return [text for text in varied_texts(count) if "<|" not in text and "<s>" not in text]


@pytest.fixture(scope="module")
def smollm2_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp", reason="the peer xllamacpp is not installed")
    path = tmp_path_factory.mktemp("smollm2") / "smollm2.f32.gguf"
    write_as(smollm2_file(), path)
    return path


@pytest.mark.parametrize("name", TINY_GGUFS)
def test_log_probabilities_of_a_random_network_equal_those_of_llama_cpp(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, TINY_GGUFS[name])
    prompt = np.random.default_rng(1).integers(0, 256, 40).tolist()
    peer = LlamaCpp(path).greedy(prompt, 8)
    assert len(peer) == 8
    tokens = [token for token, _ in peer]
    logits = NumpyModel(open_checkpoint(path)).logits([*prompt, *tokens])[len(prompt) - 1 : -1]
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    assert logits.argmax(-1).tolist() == tokens
    chosen = logprobs[np.arange(8), tokens]
    np.testing.assert_allclose(chosen, [logprob for _, logprob in peer], atol=3e-4)


def test_tokens_of_the_real_model_equal_those_of_llama_cpp() -> None:
    file = smollm2_file()
    peer, own = LlamaCpp(file), open_tokenizer(file, 49152)
    different = [text for text in _plain(400) if own.encode(text) != peer.tokenize(text)]
    assert different == []


# Where llama.cpp differs from the published tokenizer.json: it joins digits, which no vocabulary
# does, and its classes of letters leave out U+3000.
_PEER_DIFFERS = {"deepseek-llm": r"\d\d|\u3000", "deepseek-coder": "\u3000"}


@pytest.mark.parametrize(
    "name",
    [
        *("default", "gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-r1-qwen"),
        *("deepseek-llm", "deepseek-coder", "deepseek-v3"),
    ],
)
def test_every_rule_splits_text_as_llama_cpp_does(tmp_path: Path, name: str) -> None:
    path, rule = tmp_path / "model.gguf", SPLIT_RULES[name]
    tokens, merges = byte_level_merges()
    write_tiny_gguf(path, LLAMA3, vocabulary=BytePairs(tuple(tokens), tuple(merges), name))
    peer, own = LlamaCpp(path), open_tokenizer(path, len(tokens) + 2)
    texts = [text for text in _plain() if not re.search(_PEER_DIFFERS.get(name, "$^"), text)]
    different = [
        text
        for text in texts
        # llama.cpp does not normalise.
        if own.encode(text)[rule.adds_begin :]
        != peer.tokenize(unicodedata.normalize("NFC", text) if rule.composes else text)
    ]
    assert len(texts) > 200
    assert different == []


def test_sentencepiece_tokens_equal_those_of_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    pieces, scores = sentencepiece_pieces()
    write_tiny_gguf(path, LLAMA3, vocabulary=Pieces(tuple(pieces), tuple(scores)))
    peer, own = LlamaCpp(path), open_tokenizer(path, len(pieces))
    different = [
        text
        for text in _plain()
        if "\0" not in text and own.encode(text)[1:] != peer.tokenize(text)
    ]
    assert different == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_text_of_the_real_model_equals_that_of_llama_cpp(
    smollm2_f32: Path, backend: str
) -> None:
    """Ours reads the quantised file, llama.cpp the decoded one: it would quantise activations too."""
    file = smollm2_file()
    checkpoint = open_checkpoint(file)
    tokenizer = open_tokenizer(file, checkpoint.description.vocab_size)
    driver = PagedDriver(BACKENDS[backend](checkpoint, 1), checkpoint.description.vocab_size)
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    peer = LlamaCpp(smollm2_f32)
    expected = [[token for token, _ in peer.greedy(prompt, 16)] for prompt in prompts]
    sequences = driver.generate(prompts, new_tokens=16, budget=8)
    texts = [
        tokenizer.decode(sequence.tokens[len(prompt) :])
        for sequence, prompt in zip(sequences, prompts, strict=True)
    ]
    assert texts == [tokenizer.decode(tokens) for tokens in expected]
    assert texts[0].startswith(" Paris.")


def test_f32_copy_of_a_model_has_the_decoded_values(tmp_path: Path) -> None:
    quantised, copy = tmp_path / "q8.gguf", tmp_path / "f32.gguf"
    write_tiny_gguf(quantised, LLAMA3, GGMLQuantizationType.Q8_0)
    write_as(quantised, copy)
    one, other = open_checkpoint(quantised), open_checkpoint(copy)
    assert one.description == other.description
    tokens = [1, 2, 3]
    np.testing.assert_array_equal(NumpyModel(one).logits(tokens), NumpyModel(other).logits(tokens))
