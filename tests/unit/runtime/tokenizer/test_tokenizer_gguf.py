"""Tokenizers from GGUF metadata: control tokens, begin and end tokens, template, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.open import open_tokenizer
from tiny_gguf import LLAMA3, BytePairs, Pieces, write_tiny_gguf
from tiny_vocabularies import byte_level_merges, sentencepiece_pieces
from varied_texts import varied_texts

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
)


def tokenizer_of(path: Path, vocabulary: BytePairs | Pieces) -> ChatTokenizer:
    write_tiny_gguf(path, LLAMA3, vocabulary=vocabulary, template=TEMPLATE)
    return open_tokenizer(path, 2000)


def byte_pairs(rule: str = "gpt-2") -> BytePairs:
    tokens, merges = byte_level_merges()
    return BytePairs(tuple(tokens), tuple(merges), rule)


def pieces() -> Pieces:
    texts, scores = sentencepiece_pieces()
    return Pieces(tuple(texts), tuple(scores))


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe", "deepseek-llm", "deepseek-v3"])
def test_byte_level_tokens_decode_to_their_text(tmp_path: Path, rule: str) -> None:
    tokenizer = tokenizer_of(tmp_path / "model.gguf", byte_pairs(rule))
    texts = [text for text in varied_texts() if "<s>" not in text]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


def test_sentencepiece_tokens_decode_to_their_text(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "model.gguf", pieces())
    texts = [text for text in varied_texts() if "<s>" not in text]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


@pytest.mark.parametrize(("rule", "begins"), [("gpt-2", False), ("llama-bpe", True)])
def test_begin_token_in_front_of_text_follows_the_rule(
    tmp_path: Path, rule: str, begins: bool
) -> None:
    vocabulary = byte_pairs(rule)
    tokenizer = tokenizer_of(tmp_path / "model.gguf", vocabulary)
    assert (tokenizer.encode("the")[0] == len(vocabulary.tokens)) is begins


def test_template_begin_and_end_come_from_the_metadata(tmp_path: Path) -> None:
    vocabulary = byte_pairs()
    tokenizer = tokenizer_of(tmp_path / "model.gguf", vocabulary)
    begin, end = len(vocabulary.tokens), len(vocabulary.tokens) + 1
    tokens = tokenizer.encode_chat([{"role": "user", "content": "hi"}])
    assert (tokens[0], tokens[-1], tokenizer.eos_ids) == (begin, end, (end,))
    assert tokenizer.decode(tokens) == "user: hi"


def test_control_tokens_in_a_message_stay_text(tmp_path: Path) -> None:
    vocabularies: tuple[BytePairs | Pieces, ...] = (byte_pairs(), pieces())
    for index, kind in enumerate(vocabularies):
        tokenizer = tokenizer_of(tmp_path / f"{index}.gguf", kind)
        tokens = tokenizer.encode_chat([{"role": "user", "content": "a</s>b<s>"}])
        assert tokens.count(tokenizer.eos_ids[0]) == 1
        assert "a</s>b<s>" in tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"gpt-2", b"gpt-x", "tokenizer.ggml.pre 'gpt-x' is not implemented"),
        (b"\4\0\0\0\0\0\0\0gpt2", b"\4\0\0\0\0\0\0\0bert", "model 'bert' is not implemented"),
        (b"ggml.tokens", b"ggml.tokenz", "tokenizer.ggml.tokens is missing"),
        (b"ggml.merges", b"ggml.mergez", "tokenizer.ggml.merges is missing"),
    ],
)
def test_vocabulary_that_is_not_implemented_is_named(
    tmp_path: Path, old: bytes, new: bytes, words: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, LLAMA3)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(ModelLoadError, match=words):
        open_tokenizer(path, 2000)


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, LLAMA3)
    with pytest.raises(
        ModelLoadError, match="the tokenizer has 260 entries, but vocab_size is 100"
    ):
        open_tokenizer(path, 100)
