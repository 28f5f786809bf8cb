"""Byte-level BPE loses nothing: any text decodes from its tokens, under every rule for splitting."""

from __future__ import annotations

import unicodedata
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.tokenizer.byte_level import byte_level_tokenizer
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.definition import TokenizerDefinition
from r1_runtime.tokenizer.split_patterns import SPLIT_RULES
from tiny_vocabularies import byte_level_merges


@cache
def tokenizer_of(rule: str) -> ChatTokenizer:
    tokens, merges = byte_level_merges()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    raw = byte_level_tokenizer(vocabulary, merges, (), SPLIT_RULES[rule])
    return ChatTokenizer(TokenizerDefinition("test", raw, {}), len(tokens))


@settings(deadline=None)
@given(rule=st.sampled_from(sorted(SPLIT_RULES)), text=st.text(st.characters(codec="utf-8")))
def test_text_decodes_from_its_byte_level_tokens(rule: str, text: str) -> None:
    tokenizer = tokenizer_of(rule)
    expected = unicodedata.normalize("NFC", text) if SPLIT_RULES[rule].composes else text
    assert tokenizer.decode(tokenizer.encode(text)) == expected
