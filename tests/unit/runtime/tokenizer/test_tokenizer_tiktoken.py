"""tiktoken vocabularies: equal tokens with the algorithm of the `tiktoken` package."""

from __future__ import annotations

import base64
import json
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer import tiktoken_vocabulary
from r1_runtime.tokenizer.byte_level import byte_characters
from r1_runtime.tokenizer.open import open_tokenizer
from r1_runtime.tokenizer.split_patterns import QWEN_TIKTOKEN
from tiny_vocabularies import byte_level_merges
from varied_texts import varied_texts


def ranks() -> dict[bytes, int]:
    characters = {character: byte for byte, character in enumerate(byte_characters())}
    tokens, _ = byte_level_merges()
    return {bytes(characters[item] for item in token): rank for rank, token in enumerate(tokens)}


def write_ranks(path: Path) -> None:
    lines = (b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks().items())
    path.write_bytes(b"".join(lines))


def tiktoken_tokens(text: str) -> list[int]:
    """The algorithm of tiktoken: whole pieces first, else merge the adjacent pair of lowest rank."""
    known, tokens = ranks(), []
    split = pre_tokenizers.Split(Regex(QWEN_TIKTOKEN.patterns[0]), "isolated")
    for piece, _ in split.pre_tokenize_str(text):
        data = piece.encode()
        parts = [data] if data in known else [bytes([byte]) for byte in data]
        while True:
            pairs = [
                (known[parts[at] + parts[at + 1]], at)
                for at in range(len(parts) - 1)
                if parts[at] + parts[at + 1] in known
            ]
            if not pairs:
                break
            _, at = min(pairs)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        tokens += [known[part] for part in parts]
    return tokens


def test_byte_characters_are_those_of_the_tokenizers_library() -> None:
    assert set(byte_characters()) == set(pre_tokenizers.ByteLevel.alphabet())
    encoded = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("a é\n你", "\x00\x7f\xa0\xad"):
        characters = "".join(byte_characters()[byte] for byte in text.encode())
        assert encoded.pre_tokenize_str(text)[0][0] == characters


def test_tokens_equal_those_of_the_tiktoken_algorithm(tmp_path: Path) -> None:
    write_ranks(tmp_path / "qwen.tiktoken")
    tokenizer = open_tokenizer(tmp_path, 2000)
    for text in varied_texts():
        if "<|" not in text:
            composed = unicodedata.normalize("NFC", text)
            assert tokenizer.encode(text) == tiktoken_tokens(composed), text


def test_special_tokens_of_qwen_follow_the_ranks(tmp_path: Path) -> None:
    write_ranks(tmp_path / "qwen.tiktoken")
    tokenizer, count = open_tokenizer(tmp_path, 2000), len(ranks())
    assert tokenizer.encode("<|endoftext|><|im_end|><|extra_204|>") == [
        count,
        count + 2,
        count + 207,
    ]


def test_added_tokens_of_the_settings_take_precedence(tmp_path: Path) -> None:
    write_ranks(tmp_path / "qwen.tiktoken")
    entry = {"content": "<|x|>", "special": True, "lstrip": False, "rstrip": False}
    entry |= {"normalized": False, "single_word": False}
    settings = {"added_tokens_decoder": {"1000": entry}, "eos_token": "<|x|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = open_tokenizer(tmp_path, 2000)
    assert tokenizer.encode("<|x|>") == [1000]
    assert tokenizer.eos_ids == (1000,)


def test_special_tokens_of_llama_3_have_their_published_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiktoken_vocabulary, "_LLAMA3_RANKS", len(ranks()))
    write_ranks(tmp_path / "tokenizer.model")
    tokenizer, count = open_tokenizer(tmp_path, 2000), len(ranks())
    names = {"<|begin_of_text|>": 0, "<|eot_id|>": 9, "<|start_header_id|>": 6}
    names |= {"<|reserved_special_token_1|>": 3, "<|reserved_special_token_246|>": 255}
    for name, index in names.items():
        assert tokenizer.encode(name) == [count + index], name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"AAAA 0\nnonsense\n", "line 2 is no token"),
        (b"AA== 0\nAQ== 2\n", "ranks are missing or occur twice"),
        (b"AA== 0\nAQ== 1\n", "a tiktoken vocabulary of 2 tokens, whose rule"),
    ],
)
def test_damaged_or_unknown_tiktoken_file_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "other.tiktoken").write_bytes(content)
    with pytest.raises(ModelLoadError, match=words):
        open_tokenizer(tmp_path, 2000)


def test_sentencepiece_file_is_no_tiktoken_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    with pytest.raises(ModelLoadError, match="tokenizer.json is missing"):
        open_tokenizer(tmp_path, 2000)
