"""Detokenised pieces concatenate to the text for any division into tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.engine.detokenize import Detokenizer
from r1_runtime.engine.stop_strings import StopStrings


@given(text=st.text(max_size=40), cuts=st.lists(st.integers(1, 5), max_size=60))
def test_detokenized_pieces_concatenate_to_the_whole_text(text: str, cuts: list[int]) -> None:
    data = text.encode()
    detokenizer = Detokenizer(lambda tokens: bytes(tokens).decode("utf-8", errors="replace"))
    out, at = [], 0
    for cut in [*cuts, len(data)]:
        if at >= len(data):
            break
        out.append(detokenizer.push(list(data[at : at + cut])))
        at += cut
    out.append(detokenizer.flush())
    assert "".join(out) == text


@settings(max_examples=300)
@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([b"\x80", b"\xe6", b"\xe6\x9d", b"\xf0\x9f", b"\xff", b"\xef\xbf\xbd"]),
            st.binary(max_size=3),
            st.text(max_size=3).map(str.encode),
        ),
        max_size=40,
    ),
    cut=st.integers(1, 4),
)
def test_any_bytes_detokenize_like_the_whole_text_at_linear_cost(
    parts: list[bytes], cut: int
) -> None:
    data = b"".join(parts)
    decoded = 0

    def decode(tokens: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(tokens)
        return bytes(tokens).decode("utf-8", errors="replace")

    detokenizer = Detokenizer(decode)
    out = [detokenizer.push(list(data[at : at + cut])) for at in range(0, len(data), cut)]
    out.append(detokenizer.flush())
    assert "".join(out) == data.decode("utf-8", errors="replace")
    assert decoded <= 400 * (len(data) + 1)


SPECIAL = 300  # tokens from here on have no text


def _joined(tokens: Sequence[int]) -> bytes:
    return bytes(token for token in tokens if token < SPECIAL)


def _whole(tokens: Sequence[int]) -> str:
    return _joined(tokens).decode("utf-8", errors="replace")


def _one_replacement_per_byte(tokens: Sequence[int]) -> str:
    try:
        return _joined(tokens).decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(_joined(tokens))


def _one_replacement_for_all(tokens: Sequence[int]) -> str:
    """No place to cut: the parts of an invalid text have more characters than the whole."""
    try:
        return _joined(tokens).decode()
    except UnicodeDecodeError:
        return "\ufffd"


def _without_leading_space(tokens: Sequence[int]) -> str:
    """Like SentencePiece: the space of a text's first token is removed."""
    return _whole(tokens).removeprefix(" ")


@settings(max_examples=200, deadline=None)
@given(
    decode=st.sampled_from(
        [_whole, _one_replacement_per_byte, _one_replacement_for_all, _without_leading_space]
    ),
    pattern=st.lists(
        st.one_of(
            st.sampled_from([0x80, 0xE6, 0xF0, 0xFF, SPECIAL, SPECIAL + 1, 0x20, 0x61]),
            st.integers(0, 255),
        ),
        min_size=1,
        max_size=8,
    ),
    prompt=st.lists(st.sampled_from([0x61, 0xE6, SPECIAL]), max_size=6),
    length=st.integers(1, 400),
    cut=st.integers(1, 4),
)
def test_detokenizing_decodes_a_bounded_number_of_tokens_per_token(
    decode: Callable[[Sequence[int]], str],
    pattern: list[int],
    prompt: list[int],
    length: int,
    cut: int,
) -> None:
    decoded = 0

    def counting(tokens: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(tokens)
        return decode(tokens)

    tokens = (pattern * length)[:length]
    detokenizer = Detokenizer(counting, prompt)
    for at in range(0, length, cut):
        detokenizer.push(tokens[at : at + cut])
    detokenizer.flush()
    assert decoded <= 80 * (length + 10)


@settings(max_examples=300)
@given(
    words=st.lists(st.sampled_from([" a", "b", " 村", " ", "é"]), max_size=20),
    specials=st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_tokens_without_text_do_not_change_the_text(words: list[str], specials: list[bool]) -> None:
    tokens: list[int] = [0x61]
    for index, byte in enumerate("".join(words).encode()):
        tokens.append(byte)
        if specials[index % len(specials)]:
            tokens.append(SPECIAL)
    detokenizer = Detokenizer(_without_leading_space)
    out = [detokenizer.push([token]) for token in tokens]
    out.append(detokenizer.flush())
    assert "".join(out) == "a" + "".join(words)


@settings(max_examples=300)
@given(
    text=st.text(alphabet="ab", max_size=60),
    stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=9), max_size=3),
    cut=st.integers(1, 7),
)
def test_stop_strings_match_a_search_of_the_whole_text(
    text: str, stops: list[str], cut: int
) -> None:
    search = StopStrings(stops)
    out = ""
    for at in range(0, len(text), cut):
        out += search.release(text[at : at + cut])
        read = text[: at + cut]
        starts = [read.find(stop) for stop in stops if stop in read]
        assert search.found == bool(starts)
        if starts:
            assert out == read[: min(starts)]
            return
        possible = max(
            (n for stop in stops for n in range(len(stop)) if read.endswith(stop[:n])), default=0
        )
        assert out == read[: len(read) - possible]
    assert out + search.flush() == text


@given(
    text=st.text(alphabet="ab\n", max_size=30),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_text_ends_at_the_first_stop_string(text: str, stops: list[str]) -> None:
    detokenizer = Detokenizer(lambda tokens: bytes(tokens).decode(), stop=stops)
    out = ""
    for byte in text.encode():
        out += detokenizer.push([byte])
    out += detokenizer.flush()
    # One character at a time: the stop string that is complete first ends the text.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    first = min(end for end, _ in ends) if ends else None
    begin = min(at for end, at in ends if end == first) if ends else len(text)
    assert out == text[:begin]
    assert detokenizer.stopped == bool(ends)
