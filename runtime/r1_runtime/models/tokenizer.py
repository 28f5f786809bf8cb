"""The checkpoint's tokenizer and chat format: `tokenizer.json`, its settings, a Jinja template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from r1_runtime.config import ModelConfig
from r1_runtime.errors import ModelLoadError, RequestError


class ChatTokenizer:
    """Text to tokens and back, and messages to a prompt.

    Raises:
        ModelLoadError: tokenizer.json is missing or unreadable, or its vocabulary is too large.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadError(
                folder, "tokenizer.json is missing.", "copy it from the model's repository."
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ModelLoadError(
                path, f"not a readable tokenizer ({error}).", "copy it again."
            ) from error
        if self._tokenizer.get_vocab_size() > config.vocab_size:
            raise ModelLoadError(
                path,
                f"{self._tokenizer.get_vocab_size()} entries, but vocab_size is {config.vocab_size}.",
                "use the tokenizer that belongs to these weights.",
            )
        self._settings = _read_settings(folder)
        self._template_text = _read_template(folder, self._settings)
        begin = _token_text(self._settings.get("bos_token"))
        end = _token_text(self._settings.get("eos_token"))
        self._specials = {"bos_token": begin or "", "eos_token": end or ""}
        self._begin_id = self._tokenizer.token_to_id(begin) if begin else None
        self._adds_begin = bool(self._settings.get("add_bos_token"))
        named_end = self._tokenizer.token_to_id(end) if end else None
        ends = {*config.eos_token_ids, *([] if named_end is None else [named_end])}
        self.eos_ids = tuple(sorted(ends))

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text, led by the begin token where the checkpoint wants one."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._adds_begin and self._begin_id is not None and tokens[:1] != [self._begin_id]:
            return [self._begin_id, *tokens]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The prompt of a conversation, up to where the assistant speaks.

        Raises:
            RequestError: there is no template, or it refuses the messages.
        """
        if self._template_text is None:
            raise RequestError(
                "this model has no chat template; use /v1/completions", param="messages"
            )
        return list(self._tokenizer.encode(self._render(messages), add_special_tokens=False).ids)

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        import jinja2

        try:
            text: str = self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                **self._specials,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise RequestError(
                f"the chat template refuses the messages: {error}", param="messages"
            ) from error
        return text

    @cached_property
    def _template(self) -> Any:
        """The compiled template, in the dialect that the published ones are written for."""
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise jinja2.TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        return environment.from_string(self._template_text or "")

    def prepare_template(self) -> None:
        """Compile the template now, so that no request waits for it.

        Raises:
            ModelLoadError: it does not compile.
        """
        import jinja2

        if self._template_text is None:
            return
        try:
            _ = self._template
        except jinja2.TemplateError as error:
            raise ModelLoadError(
                "chat template", f"does not compile ({error}).", "mend it."
            ) from error


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelLoadError(path, f"not readable as JSON ({error}).", "copy it again.") from error
    return settings if isinstance(settings, dict) else {}


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The file wins over the setting; a list of named templates gives its `default`."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(value: object) -> str | None:
    """A token is written as text or as an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None
