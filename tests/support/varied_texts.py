"""Texts on which tokenizers differ: scripts, white space, digits, contractions, code, rare Unicode."""

from __future__ import annotations

import random

_FIXED = (
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\t\tif x:\r\n    return\r\n",
    "Hello world",
    " Hello  world   ",
    "I'm, you're, they'LL, it'S, we'd've; don't",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F 1e-9 ٣٤٥ ½ Ⅷ ①",
    "The quick brown fox jumps over the lazy dog.",
    "def f(x):\n    return {k: v ** 2 for k, v in x.items() if v != 0}\n",
    '#include <vector>\nint main() { std::cout << "a\\n"; return 0; }',
    "SELECT * FROM t WHERE a >= 3 AND b LIKE '%x_%' -- comment",
    "https://example.com/a/b?c=d&e=%20f#g user@example.org",
    "Grüße aus Köln, naïve façade, Ærøskøbing, İstanbul, ﬁn, ǅ",
    "Привет, как дела? Ёжик.",
    "你好，世界！今天天气不错。",
    "こんにちは世界、カタカナ",
    "안녕하세요 세계",
    "नमस्ते दुनिया, ภาษาไทย, العربية, עברית",
    "🙂👍🏽👨‍👩‍👧‍👦🇩🇪 é e\u0301 \u200b\u200d\ufeff\u00a0\u3000x",
    "a\u0000b\u0001c\u007fd\u0085e\u2028f",
    "…—–“quoted”‘single’«guillemets»¡¿",
    "<|im_start|>user\nHi<|im_end|>",
    "<s>[INST] x [/INST]</s> <｜User｜>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "########################################",
    "                                                    x",
    "x\n \n  \n   \ny",
    "ΑΒΓ αβγ ᾳ ῳ 𝔘𝔫𝔦 𐐀𐑏 Ⴀ",
    "CamelCaseAndsnake_case and kebab-case",
)
_ALPHABETS = (
    "abcdefghij XYZ  \n",
    "0123456789 .,-",
    "äöüßéèñçø æ' ",
    "абвгд ЖЗ, ",
    "你好世界吗 。，",
    "かなカナ漢字ー ",
    "🙂👍é\u0301\u200d🏽 ",
    "(){}[];:=+-*/<>!&|^~%$#@\\\"'`?_ \n\t",
    " \t\n\r\u00a0\u3000",
    "ab12 .'\n-é你🙂",
)


def varied_texts(count: int = 300) -> list[str]:
    """`count` texts: fixed ones, then random ones from one alphabet each, the same on every run."""
    draw = random.Random(7)
    texts = list(_FIXED)
    while len(texts) < count:
        alphabet = draw.choice(_ALPHABETS)
        texts.append("".join(draw.choices(alphabet, k=draw.randint(1, 40))))
    return texts[:count]
