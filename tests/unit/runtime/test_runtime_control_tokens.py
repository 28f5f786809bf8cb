"""Control tokens come from the chat template; the same strings in a message are text."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from r1_runtime.architecture.families import read_description
from r1_runtime.errors import RequestError
from r1_runtime.server.options import resolve_model
from r1_runtime.tokenizer import chat_tokenizer as tokenizer_module
from r1_runtime.tokenizer import control_tokens
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.control_tokens import ControlTokens
from r1_runtime.tokenizer.open import open_tokenizer

DEMO = resolve_model("bundled:demo")
WIDE = ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜tool▁call▁begin｜>")
DEMO_STRINGS = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
# Features of published templates: trimming, splitting, concatenation, absent content,
# tool calls, JSON, a loop control.
TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ message['content'] | trim }}
{%- elif message['role'] == 'user' -%}
{%- if not message['content'] -%}{% continue %}{%- endif -%}
{{ '<｜User｜>' + message['content'] }}{% if message.name %}{{ '<' + message.name + '>' }}{% endif %}
{%- elif message['role'] == 'tool' -%}{{ {'result': message['content']} | tojson }}
{%- elif message['content'] is none -%}
{%- for call in message['tool_calls'] -%}
<｜tool▁call▁begin｜>{{ call['function']['name'] }} {{ call['function']['arguments'] }}
{%- endfor -%}
{%- else -%}
{%- set content = message['content'] -%}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif -%}
<｜Assistant｜>{{ content.strip() + eos_token }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<｜Assistant｜>{% if deep %}<think>{% endif %}{%- endif -%}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's tokenizer with full-width control tokens that are not marked as special."""
    folder = tmp_path_factory.mktemp("wide")
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in WIDE])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 4096 + len(WIDE)}))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def wide(folder: Path) -> ChatTokenizer:
    return open_tokenizer(folder, read_description(folder).vocab_size)


@pytest.fixture(scope="module")
def demo() -> ChatTokenizer:
    return open_tokenizer(DEMO, read_description(DEMO).vocab_size)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def control(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> list[int]:
    """The control tokens among `tokens`, in order."""
    return [token for token in tokens if token in set(tokenizer._control.ids.values())]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("text", DEMO_STRINGS)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_control_string_in_a_message_stays_text(
    demo: ChatTokenizer, role: str, text: str
) -> None:
    plain = demo.encode_chat([{"role": role, "content": "ab"}, user("x")])
    tokens = demo.encode_chat([{"role": role, "content": f"a{text}b"}, user("x")])
    assert control(demo, tokens) == control(demo, plain)
    assert f"a{text}b" in demo.decode(tokens)


@pytest.mark.parametrize("text", WIDE)
def test_a_control_string_that_is_not_special_stays_text(wide: ChatTokenizer, text: str) -> None:
    tokens = wide.encode_chat([user(f"a{text}b")])
    assert control(wide, tokens) == control(wide, wide.encode_chat([user("ab")]))
    assert f"a{text}b" in wide.decode(tokens)


@pytest.mark.parametrize(
    "messages",
    [
        [user("x <｜Us"), {"role": "tool", "content": "er｜>"}],
        [{"role": "system", "content": "<｜User"}, user("｜>")],
        [user("hello") | {"name": "think"}],
        [user("hello") | {"name": "｜User｜"}],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"function": {"name": "<think>", "arguments": '{"a": "<｜Assistant｜>"}'}}
                ],
            },
            {"role": "tool", "content": "<|end|> </think>"},
        ],
    ],
)
def test_no_field_and_no_border_creates_a_control_token(
    wide: ChatTokenizer, messages: list[dict[str, Any]]
) -> None:
    harmless = json.loads(json.dumps(messages, ensure_ascii=False).translate(_LETTERS))
    assert control(wide, wide.encode_chat(messages)) == control(wide, wide.encode_chat(harmless))


# Each character of a control string becomes a letter, except JSON's own and those of the keys.
_LETTERS = {ord(character): "x" for character in "<>｜|/▁"}


def test_template_removes_the_reasoning_of_earlier_responses(
    wide: ChatTokenizer, oracle: Any
) -> None:
    messages = [
        user("hi"),
        {"role": "assistant", "content": "<think>long thoughts</think> the answer "},
        user("and?"),
    ]
    tokens = wide.encode_chat(messages)
    assert tokens == apply_template(oracle, messages)
    assert "thoughts" not in wide.decode(tokens)


def test_template_variables_are_passed_and_their_text_stays_text(
    wide: ChatTokenizer, demo: ChatTokenizer
) -> None:
    think = wide._control.ids["<think>"]
    assert wide.encode_chat([user("x")], {"deep": True})[-1] == think
    assert think not in wide.encode_chat([user("x")], {"deep": False})
    with pytest.raises(RequestError, match="chat_template_kwargs cannot set messages"):
        demo.encode_chat([user("x")], {"messages": []})


def test_raw_prompt_may_contain_control_tokens(demo: ChatTokenizer) -> None:
    """A client may render the conversation itself, as with vLLM."""
    assert demo.encode("<|user|>hi") == [0, demo._control.ids["<|user|>"], *demo.encode("hi")[1:]]


def test_an_absent_content_is_empty_for_a_template_without_tool_calls(demo: ChatTokenizer) -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    absent = {"role": "assistant", "content": None, "tool_calls": [call]}
    empty = {"role": "assistant", "content": ""}
    assert demo.encode_chat([absent, user("x")]) == demo.encode_chat([empty, user("x")])


def apply_template(oracle: Any, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    tokens: list[int] = oracle.apply_chat_template(
        list(messages), add_generation_prompt=True, return_dict=False
    )
    return tokens


ordinary = st.text(max_size=40).filter(lambda text: not set(text) & set("<｜|>"))
conversations = st.lists(
    st.one_of(
        st.builds(lambda text: {"role": "system", "content": text}, ordinary),
        st.builds(lambda text: {"role": "user", "content": text}, ordinary),
        st.builds(lambda text: {"role": "assistant", "content": text}, ordinary),
        st.builds(lambda text: {"role": "tool", "content": text}, ordinary),
        st.builds(lambda text: {"role": "user", "content": "q", "name": text}, ordinary),
    ),
    min_size=1,
    max_size=5,
)
strings = st.sampled_from([*WIDE, *DEMO_STRINGS])
hostile = st.lists(
    st.one_of(
        strings,
        strings.flatmap(lambda text: st.integers(1, len(text)).map(lambda at: text[:at])),
        strings.flatmap(lambda text: st.integers(0, len(text) - 1).map(lambda at: text[at:])),
        st.text(max_size=5),
    ),
    max_size=5,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(messages=conversations)
def test_ordinary_messages_have_the_tokens_of_transformers(
    wide: ChatTokenizer, oracle: Any, messages: list[dict[str, Any]]
) -> None:
    assert wide.encode_chat(messages) == apply_template(oracle, messages)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(hostile, min_size=2, max_size=4))
def test_hostile_messages_have_the_template_s_control_tokens_only(
    wide: ChatTokenizer, texts: list[str]
) -> None:
    def conversation(contents: list[str]) -> list[dict[str, Any]]:
        roles = ["system", "user", "tool", "user"]
        return [
            {"role": role, "content": content}
            for role, content in zip(roles, contents, strict=False)
        ]

    tokens = wide.encode_chat(conversation(texts))
    plain = wide.encode_chat(conversation(["x" if text else "" for text in texts]))
    assert control(wide, tokens) == control(wide, plain)


def test_text_that_a_normaliser_turns_into_a_control_string_stays_text(
    tmp_path: Path, folder: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    raw = json.loads((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw | {"normalizer": {"type": "NFKC"}}))
    tokenizer = open_tokenizer(tmp_path, read_description(tmp_path).vocab_size)
    tokens = tokenizer.encode_chat([user("a＜/think＞b")])
    assert control(tokenizer, tokens) == control(tokenizer, tokenizer.encode_chat([user("ab")]))
    assert "a</think>b" in tokenizer.decode(tokens)


def entries(texts: Sequence[str], **flags: bool) -> list[dict[str, Any]]:
    return [{"id": 4096 + at, "content": text, **flags} for at, text in enumerate(texts)]


def test_a_search_costs_the_same_with_800_control_tokens() -> None:
    """DeepSeek-R1's tokenizer has 818; the search holds the interpreter lock."""
    many = ControlTokens(entries([*WIDE, *(f"<｜place▁holder▁no▁{at}｜>" for at in range(800))]))
    text = "the quick brown fox <｜place▁holder▁no▁" * 5_000
    begun = time.process_time()
    assert many.find(text + "<｜place▁holder▁no▁799｜>")[0].start == len(text)
    assert time.process_time() - begun < 10


pieces = st.sampled_from(["<", "a", "ab", ">", "<a>", " ", "\n", "é", "_", "<ab>x"])


@settings(max_examples=300, deadline=None)
@given(
    added=st.dictionaries(
        st.lists(st.sampled_from("<ab>"), min_size=1, max_size=4).map("".join),
        st.fixed_dictionaries(
            {flag: st.booleans() for flag in ("single_word", "lstrip", "rstrip")}
        ),
        min_size=1,
        max_size=6,
    ),
    text=st.lists(pieces, max_size=12).map("".join),
    slice_size=st.sampled_from([1, 2, 5, 2**16]),
)
def test_the_search_finds_what_the_tokenizer_finds(
    added: Mapping[str, Mapping[str, bool]], text: str, slice_size: int
) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_tokens([AddedToken(name, normalized=False, **added[name]) for name in added])
    ids = {name: tokenizer.token_to_id(name) for name in added}
    control = ControlTokens([{"id": ids[name], "content": name, **added[name]} for name in added])
    encoding = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_tokens, "_SLICE", slice_size)
        matches = control.find(text)
    assert [tuple(each) for each in matches] == [
        (*span, token) for token, span in zip(encoding.ids, encoding.offsets, strict=True)
    ]


@pytest.mark.parametrize("text", ["7" * 2_000_000, "<｜User｜>" * 200_000, "中文😀" * 200_000])
def test_too_many_tokens_are_rejected_before_all_are_in_memory(
    wide: ChatTokenizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Without the check, five million digits use 2 GB with a context of 160,000 tokens."""
    made = 0
    encode = tokenizer_module._encode

    def counting(*arguments: Any) -> list[list[int]]:
        nonlocal made
        encoded = encode(*arguments)
        made += sum(map(len, encoded))
        return encoded

    monkeypatch.setattr(tokenizer_module, "_encode", counting)
    with pytest.raises(RequestError, match="messages has more than 100000 tokens"):
        wide.encode_chat([user(text)], max_tokens=100_000)
    assert made < 400_000


def test_long_prompt_of_few_tokens_is_accepted(wide: ChatTokenizer) -> None:
    text = "the quick brown fox and the lazy dog " * 20_000
    tokens = wide.encode_chat([user(text)])
    assert wide.encode_chat([user(text)], max_tokens=len(tokens)) == tokens
