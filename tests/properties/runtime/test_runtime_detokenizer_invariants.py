"""However a text is cut into tokens, its pieces add up to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from r1_runtime.engine.detokenize import Detokenizer


@given(text=st.text(max_size=40), cuts=st.lists(st.integers(1, 5), max_size=60))
def test_pieces_add_up(text: str, cuts: list[int]) -> None:
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


@given(
    text=st.text(alphabet="ab\n", max_size=30),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_the_text_ends_where_the_first_stop_string_begins(text: str, stops: list[str]) -> None:
    detokenizer = Detokenizer(lambda tokens: bytes(tokens).decode(), stop=stops)
    out = ""
    for byte in text.encode():
        out += detokenizer.push([byte])
    out += detokenizer.flush()
    # Fed one character at a time, the stop string that is complete first wins.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    first = min(end for end, _ in ends) if ends else None
    begin = min(at for end, at in ends if end == first) if ends else len(text)
    assert out == text[:begin]
    assert detokenizer.stopped == bool(ends)
