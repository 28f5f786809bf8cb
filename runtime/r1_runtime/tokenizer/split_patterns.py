"""How text is split before byte pairs are merged, by the name that GGUF files give the rule.

The expressions are those of the published `tokenizer.json` files, in Oniguruma's syntax; `default` is
llama.cpp's rule for files without a name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SplitRule:
    """One rule.

    Attributes:
        patterns: applied one after another to the pieces so far; each match becomes a piece, and so
            does the text between two matches.
        whole_words: a piece that is a token stays whole, whatever the merges say.
        composes: text is normalised to NFC first.
        adds_begin: plain text gets the begin token, unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    composes: bool = False
    adds_begin: bool = False


def _class(ranges: str) -> str:
    """A character class of ranges in hexadecimal, such as `41-5a b5`."""
    ends = [item.partition("-")[::2] for item in ranges.split()]
    parts = [f"\\x{{{low}}}-\\x{{{high}}}" if high else f"\\x{{{low}}}" for low, high in ends]
    return "".join(parts)


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _tiktoken(digits: str) -> str:
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# Letters with case, as of the Unicode version that DeepSeek-LLM was published with.
_CASED_LETTERS = _class(
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 "
    "388-38a 38c 38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba "
    "1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 "
    "1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb "
    "1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d "
    "212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 "
    "a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a "
    "ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943"
)
_PUNCTUATION = _class("21-2f 3a-7e ff01-ff0f ff1a-ff5e 2018-201f 3000-3002")
_EAST_ASIAN = "[" + _class("4e00-9fa5 800-4e00 ac00-d7ff") + "]+"
_HAN_AND_KANA = "[" + _class("4e00-9fa5 3040-309f 30a0-30ff") + "]+"
_ASCII_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"

_DEEPSEEK_LLM = SplitRule(
    (
        r"[\r\n]",
        rf"\s?[{_CASED_LETTERS}]+",
        rf"\s?[{_PUNCTUATION}]+",
        r"\s+$",
        _EAST_ASIAN,
        r"\p{N}",
    )
)
_DEEPSEEK_CODER = SplitRule((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}"))
_DEEPSEEK_V3 = SplitRule(
    (
        r"\p{N}{1,3}",
        _HAN_AND_KANA,
        _ASCII_PUNCTUATION
        + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        + r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
_LLAMA3 = SplitRule((_tiktoken(r"\p{N}{1,3}"),), whole_words=True, adds_begin=True)
_DIGITS_APART = SplitRule((r"\p{N}", _GPT2))
_DEFAULT = SplitRule((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))

SPLIT_RULES = {
    "default": _DEFAULT,
    **dict.fromkeys(("gpt-2", "olmo", "phi-2"), SplitRule((_GPT2,))),
    **dict.fromkeys(("smollm", "starcoder", "command-r", "refact", "codeshell"), _DIGITS_APART),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _LLAMA3),
    "qwen2": SplitRule((_tiktoken(r"\p{N}"),), composes=True),
    "deepseek-r1-qwen": SplitRule((_tiktoken(r"\p{N}"),)),
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": _DEEPSEEK_CODER,
    "deepseek-v3": _DEEPSEEK_V3,
}
QWEN_TIKTOKEN = SplitRule((_tiktoken(r"\p{N}"),), whole_words=True, composes=True)
LLAMA3_TIKTOKEN = _LLAMA3
