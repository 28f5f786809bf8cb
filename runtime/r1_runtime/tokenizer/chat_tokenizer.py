"""Text to tokens and back, and messages to a prompt, by a checkpoint's tokenizer and template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

from r1_runtime.errors import ModelLoadError, RequestError
from r1_runtime.tokenizer.chat_template import ChatTemplate
from r1_runtime.tokenizer.control_tokens import ControlTokens
from r1_runtime.tokenizer.definition import TokenizerDefinition

_BYTE_VALUES = 256
_USUAL_BYTES = 4  # of text per token, in English
_SLICE = 2**14  # characters


class ChatTokenizer:
    """Converts text to tokens and back, and messages to a prompt.

    The methods are thread-safe and release the interpreter lock while they tokenise.

    Args:
        definition: vocabulary, rules and chat template.
        vocab_size: rows of the embedding matrix.
        eos_token_ids: tokens that end an output by the model's configuration.

    Raises:
        ModelLoadError: the tokenizer does not parse, its vocabulary is too large, or the chat
            template does not compile.
    """

    def __init__(
        self,
        definition: TokenizerDefinition,
        vocab_size: int,
        eos_token_ids: Sequence[int] = (),
    ) -> None:
        raw = definition.raw
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(raw))
        except Exception as error:  # the library raises plain Exception
            raise ModelLoadError(
                definition.where, f"not a readable tokenizer ({error}).", "copy it again."
            ) from error
        if self._tokenizer.get_vocab_size() > vocab_size:
            raise ModelLoadError(
                definition.where,
                f"the tokenizer has {self._tokenizer.get_vocab_size()} entries, but vocab_size is"
                f" {vocab_size}.",
                "use the tokenizer that belongs to these weights.",
            )
        self._control = ControlTokens(raw.get("added_tokens") or ())
        self._raw = raw
        self._bytes_per_token = _longest_token(raw)
        texts, source = definition.special_texts, definition.chat_template
        self._template = None if source is None else ChatTemplate(source, texts, definition.where)
        self._begin_id = self._token_id(texts.get("bos_token"))
        self._adds_begin = definition.adds_begin
        named_end = self._token_id(texts.get("eos_token"))
        ends = {*eos_token_ids, *definition.end_ids, *([] if named_end is None else [named_end])}
        self.eos_ids = tuple(sorted(ends))

    @cached_property
    def _without_control(self) -> Any:
        """Made with the first message that contains an added token's string: it doubles the memory."""
        return _without_added_tokens(self._raw, self._control)

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Tokens of plain text, with the begin token in front if the checkpoint is configured so.

        The string of an added token becomes that token.

        Raises:
            RequestError: the text is too long for `max_tokens` tokens.
        """
        self._check_size(text, max_tokens, "prompt")
        _check_count(self._tokenizer, [text], max_tokens, "prompt")
        tokens = _encode(self._tokenizer, [text])[0]
        if self._adds_begin and self._begin_id is not None and tokens[:1] != [self._begin_id]:
            return [self._begin_id, *tokens]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones included."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def token_id(self, text: str) -> int | None:
        """The number of the token with this text, if the vocabulary has one."""
        number: int | None = self._tokenizer.token_to_id(text)
        return number

    def as_json(self) -> str:
        """The tokenizer in the format of tokenizer.json."""
        text: str = self._tokenizer.to_str()
        return text

    @property
    def template(self) -> str:
        """The source of the chat template; empty without one."""
        return "" if self._template is None else self._template.source

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
    ) -> list[int]:
        """The prompt of a conversation, up to the start of the assistant's response.

        Added tokens come from the template only: their strings in a message remain text. Messages
        without such strings give the same tokens as `apply_chat_template` of `transformers`.

        Args:
            messages: role, content and other fields that the template reads.
            variables: additional variables of the template.
            max_tokens: the longest prompt.

        Raises:
            RequestError: the checkpoint has no template, the template rejects the messages, or the
                rendered text is too long for `max_tokens` tokens.
        """
        template = self._template
        if template is None:
            raise RequestError(
                "this model has no chat template; use /v1/completions", param="messages"
            )
        variables = variables or {}
        taken = sorted(template.reserved & variables.keys())
        if taken:
            raise RequestError(
                f"chat_template_kwargs cannot set {taken[0]}", param="chat_template_kwargs"
            )
        messages = [_with_content(message, template) for message in messages]
        text = template.render(messages, variables)
        self._check_size(text, max_tokens, "messages")
        control = self._control
        # Roles are not masked: they come from a fixed list and not from the user.
        masked = [
            {key: item if key == "role" else control.mask(item) for key, item in message.items()}
            for message in messages
        ]
        rendered = template.render(masked, {key: control.mask(variables[key]) for key in variables})
        occurrences = control.find(rendered)
        unmasked = control.unmask(rendered)
        if unmasked == text and control.find(text) == occurrences:
            _check_count(self._tokenizer, [text], max_tokens, "messages")
            tokens = _encode(self._tokenizer, [text])[0]
            # A normaliser may create further ones, for example from full-width letters.
            if control.among(tokens) == [token for _, _, token in occurrences]:
                return tokens
        return self._encode_pieces(unmasked, occurrences, max_tokens)

    def _encode_pieces(
        self, text: str, occurrences: Sequence[tuple[int, int, int]], max_tokens: int | None
    ) -> list[int]:
        """Tokens of `text`, where only the occurrences in `occurrences` are added tokens."""
        starts = [0, *(end for _, end, _ in occurrences)]
        ends = [*(start for start, _, _ in occurrences), len(text)]
        pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        _check_count(self._without_control, pieces, max_tokens, "messages")
        encoded = _encode(self._without_control, pieces)
        if self._control.among(chain.from_iterable(encoded)):
            raise RequestError(
                "the messages contain a control token that this tokenizer cannot encode as text",
                param="messages",
            )
        tokens = encoded[0]
        for (_, _, token), piece in zip(occurrences, encoded[1:], strict=True):
            tokens += [token, *piece]
        return tokens

    def _check_size(self, text: str, max_tokens: int | None, field: str) -> None:
        if max_tokens is None or self._bytes_per_token is None:
            return
        size, most = len(text.encode()), max_tokens * self._bytes_per_token
        if size > most:
            raise RequestError(
                f"{field} has {size} bytes; the longest prompt of this server is {max_tokens} tokens, "
                f"at most {most} bytes",
                param=field,
                code="context_length_exceeded",
            )

    def _token_id(self, text: str | None) -> int | None:
        token_id: int | None = self._tokenizer.token_to_id(text) if text else None
        return token_id


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # The batch call releases the interpreter lock, `encode` does not; offsets are not needed.
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [list(encoding.ids) for encoding in encodings]


def _check_count(tokenizer: Any, texts: Sequence[str], max_tokens: int | None, field: str) -> None:
    """Reject a text that has too many tokens, before all of them are in memory.

    The tokenizer uses hundreds of bytes per token. A long text is counted slice by slice up to twice
    the limit, because each cut adds a few tokens to the thousands of a slice.

    Raises:
        RequestError: 400.
    """
    size = sum(len(text.encode()) for text in texts)
    if max_tokens is None or size <= _USUAL_BYTES * max_tokens:
        return
    count = 0
    for text in texts:
        for at in range(0, len(text), _SLICE):
            count += len(_encode(tokenizer, [text[at : at + _SLICE]])[0])
            if count > 2 * max_tokens:
                raise RequestError(
                    f"{field} has more than {max_tokens} tokens, the longest prompt of this server",
                    param=field,
                    code="context_length_exceeded",
                )


def _without_added_tokens(raw: Mapping[str, Any], control: ControlTokens) -> Any:
    """The same tokenizer without added tokens: their strings are ordinary text."""
    bare = {**raw, "added_tokens": [], "post_processor": None}
    model = raw.get("model") or {}
    if isinstance(model.get("vocab"), dict):
        vocabulary = {
            text: number for text, number in model["vocab"].items() if text not in control.ids
        }
        try:
            return Tokenizer.from_str(json.dumps({**bare, "model": {**model, "vocab": vocabulary}}))
        except Exception:  # noqa: BLE001, S110  (a merge needs such an entry: the entry stays)
            pass
    return Tokenizer.from_str(json.dumps(bare))


def _longest_token(raw: Mapping[str, Any]) -> int | None:
    """Upper bound of the bytes of text per token, or None without such a bound.

    The bound exists for a byte-level BPE that removes no text: no normaliser, no removing split, all
    byte values in the vocabulary, no added token that removes white space.
    """
    splitters = raw.get("pre_tokenizer") or {}
    parts = splitters.get("pretokenizers") or [splitters]
    vocabulary = (raw.get("model") or {}).get("vocab")
    added = raw.get("added_tokens") or ()
    bounded = (
        raw.get("normalizer") in (None, {"type": "Sequence", "normalizers": []})
        and any(part.get("type") == "ByteLevel" for part in parts)
        and not any(part.get("behavior") == "Removed" for part in parts)
        and not any(entry.get("lstrip") or entry.get("rstrip") for entry in added)
        and isinstance(vocabulary, dict)
    )
    if not bounded or vocabulary is None:
        return None
    if sum(len(text) == 1 for text in vocabulary) < _BYTE_VALUES:
        return None
    # One character of a byte-level vocabulary is one byte; an added token is plain text.
    lengths = [len(text) for text in vocabulary]
    return max(*lengths, *(len(str(entry.get("content")).encode()) for entry in added), 1)


def _with_content(message: Mapping[str, Any], template: ChatTemplate) -> Mapping[str, Any]:
    """Replace absent content by an empty string, unless the template handles tool calls."""
    if message.get("content") is None and not template.knows_tool_calls:
        return {**message, "content": ""}
    return message
