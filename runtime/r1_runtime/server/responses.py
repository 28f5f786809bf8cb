"""OpenAI's response objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.errors import RequestError


@dataclass(frozen=True, slots=True)
class Usage:
    """Prompt and completion tokens."""

    prompt_tokens: int
    completion_tokens: int

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


@dataclass(frozen=True, slots=True)
class ResponseBuilder:
    """Response objects of one generation, for either endpoint."""

    id: str
    model: str
    created: int
    chat: bool

    def full(self, text: str, finish: str, usage: Usage) -> dict[str, Any]:
        """The object of a response that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return self._object(kind, [choice]) | {"usage": usage.as_json()}

    def first_chunk(self) -> dict[str, Any] | None:
        """The first chunk of a chat, with the role."""
        return self._chunk({"role": "assistant", "content": ""}, None) if self.chat else None

    def text_chunk(self, text: str, finish: str | None) -> dict[str, Any]:
        """A chunk with text, with the finish reason, or with both."""
        if self.chat:
            return self._chunk({"content": text} if text else {}, finish)
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        return self._object("text_completion", [choice])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The last chunk of a stream with `include_usage`: no choices."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._object(kind, []) | {"usage": usage.as_json()}

    def _chunk(self, delta: Mapping[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return self._object("chat.completion.chunk", [choice])

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def error_object(error: RequestError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }
