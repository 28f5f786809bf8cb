"""Detokenised text has whole characters and no part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from r1_runtime.engine.detokenize import Detokenizer


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer with one token per byte: the worst case for characters."""
    return bytes(tokens).decode("utf-8", errors="replace")


def pieces(text: str, stop: Sequence[str] = ()) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(decode_bytes, stop=stop)
    out = [detokenizer.push([byte]) for byte in text.encode()]
    out.append(detokenizer.flush())
    return out, detokenizer


@pytest.mark.parametrize(
    "text", ["plain", "naïve café", "東京", "🙂 and 👩‍🚀", "Привет", "a\u0301"]
)
def test_characters_of_several_tokens_are_emitted_whole(text: str) -> None:
    out, _ = pieces(text)
    assert "".join(out) == text
    assert not any("\ufffd" in piece for piece in out)


def test_invalid_bytes_are_emitted_and_do_not_block_the_rest() -> None:
    detokenizer = Detokenizer(decode_bytes)
    out = "".join(detokenizer.push([byte]) for byte in b"\xff\xfe\xfd\xfcok") + detokenizer.flush()
    assert out.endswith("ok")
    assert "\ufffd" in out


def test_character_cut_by_the_token_limit_is_emitted_at_the_end() -> None:
    detokenizer = Detokenizer(decode_bytes)
    assert detokenizer.push("é".encode()[:1]) == ""
    assert detokenizer.flush() == "\ufffd"


def test_a_stop_string_ends_the_text_before_it() -> None:
    out, detokenizer = pieces("one. two. STOP three", stop=["STOP"])
    assert "".join(out) == "one. two. "
    assert detokenizer.stopped


def test_text_that_only_began_like_a_stop_string_is_emitted() -> None:
    out, detokenizer = pieces("ST and STO", stop=["STOP"])
    assert "".join(out) == "ST and STO"
    assert not detokenizer.stopped


def test_earliest_of_several_stop_strings_ends_the_text() -> None:
    detokenizer = Detokenizer(decode_bytes, stop=["three", "two"])
    assert detokenizer.push(b"one two three") == "one "


def test_possible_beginning_of_a_stop_string_is_buffered() -> None:
    detokenizer = Detokenizer(decode_bytes, stop=["\n\n"])
    assert detokenizer.push(b"a\n") == "a"
    assert detokenizer.push(b"b") == "\nb"
    assert detokenizer.push(b"\n") == ""
    assert detokenizer.push(b"\n") == ""
    assert detokenizer.stopped


def test_the_prompt_is_not_repeated() -> None:
    detokenizer = Detokenizer(decode_bytes, prompt=list(b"prompt"))
    assert detokenizer.push(b" text") == " text"


class CountingDecoder:
    """Counts the tokens that it decodes; 256 and above have no text, like special tokens."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, tokens: Sequence[int]) -> str:
        self.tokens += len(tokens)
        return bytes(token for token in tokens if token < 256).decode("utf-8", errors="replace")


@pytest.mark.parametrize(
    "tokens",
    [b"\x80" * 4000, b"\xe6" * 4000, "\ufffd".encode() * 2000, b"\xf0\x9f" * 2000],
    ids=["continuations", "beginnings", "the character itself", "halves"],
)
def test_text_that_keeps_ending_in_u_fffd_decodes_a_bounded_number_of_tokens(
    tokens: bytes,
) -> None:
    decode = CountingDecoder()
    detokenizer = Detokenizer(decode)
    out = "".join(detokenizer.push([byte]) for byte in tokens) + detokenizer.flush()
    assert out == tokens.decode("utf-8", errors="replace")
    assert decode.tokens < 60 * len(tokens)


def test_tokens_without_text_inside_a_character_do_not_accumulate() -> None:
    decode = CountingDecoder()
    detokenizer = Detokenizer(decode)
    out = detokenizer.push([0xE6])
    out += "".join(detokenizer.push([300]) for _ in range(4000))
    out += detokenizer.push([0x9D]) + detokenizer.push([0x91]) + detokenizer.flush()
    assert out == "村"
    assert decode.tokens < 60 * 4000


def test_decoder_with_one_replacement_per_byte_results_in_the_character() -> None:
    def decode(tokens: Sequence[int]) -> str:
        try:
            return bytes(tokens).decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(tokens)

    detokenizer = Detokenizer(decode)
    out = [detokenizer.push([byte]) for byte in "村".encode()]
    assert "".join(out) + detokenizer.flush() == "村"
