"""A checkpoint's chat template: renders messages to text, in the Jinja dialect of `transformers`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from r1_runtime.errors import ModelLoadError, RequestError


class ChatTemplate:
    """A compiled template.

    Args:
        source: the template's text.
        specials: variables for special tokens, such as `bos_token`.
        where: the model's file, for messages.

    Raises:
        ModelLoadError: the template does not compile.
    """

    def __init__(self, source: str, specials: Mapping[str, str], where: object) -> None:
        import jinja2

        self.source = source
        self._specials = dict(specials)
        self.reserved = frozenset({"messages", "add_generation_prompt", *specials})
        self.knows_tool_calls = "tool_calls" in source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ModelLoadError(
                where, f"its chat template does not compile ({error}).", "correct the template."
            ) from error

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        """The prompt's text, up to the start of the assistant's response.

        Raises:
            RequestError: the template rejects the messages or fails.
        """
        try:
            text: str = self._template.render(
                **variables,
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                **self._specials,
            )
        except Exception as error:  # a template can raise any exception
            raise RequestError(
                f"the chat template rejects the messages: {error}",
                param="messages",
                code="template_error",
            ) from error
        return text


def _environment() -> Any:
    """The functions, filters and tags of a template in `transformers`."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)  # noqa: DTZ005
    return environment
