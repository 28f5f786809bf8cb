"""Structured output by `llguidance`: JSON schemas, regular expressions, choices, grammars.

The library is imported with the first request that needs it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_CACHED = 64
# A weak model may write white space without end where JSON allows any.
_JSON_SPACE = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,64}"}
_CALL_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_SHOWN = 400  # characters of the library's message


class GrammarCompiler:
    """Compiles grammars for one vocabulary. Thread-safe.

    Args:
        tokenizer: returns the tokenizer in the format of tokenizer.json.
        vocabulary: number of logits.
        end_tokens: tokens that end an output.
    """

    def __init__(
        self, tokenizer: Callable[[], str], vocabulary: int, end_tokens: Sequence[int]
    ) -> None:
        self._source = tokenizer
        self._vocabulary = vocabulary
        self._end_tokens = list(end_tokens)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()

    def compile(self, kind: str, value: Any, param: str) -> GrammarConstraint:
        """The constraint of one output.

        Args:
            kind: `json_schema`, `call` (JSON of a call, without optional white space), `regex`,
                `choice` or `grammar`.
            value: a JSON schema, an expression, a list of texts, or a grammar in Lark or GBNF.
            param: the request's field, for errors.

        Raises:
            RequestError: 400: the grammar does not compile; 501: the library is not installed.
        """
        try:
            import llguidance
        except ImportError as error:
            raise RequestError(
                f"{param}: structured outputs need the package llguidance, which is not installed",
                status=501,
                kind="server_error",
                param=param,
            ) from error
        key = (kind, value if isinstance(value, str) else json.dumps(value, sort_keys=True))
        with self._lock:
            matcher = self._compiled.get(key)
            if matcher is None:
                matcher = llguidance.LLMatcher(
                    self._get_tokenizer(), _source(kind, value, param), log_level=0
                )
                if matcher.is_error():
                    raise _refusal(param, matcher.get_error())
                self._compiled[key] = matcher
                if len(self._compiled) > _CACHED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return GrammarConstraint(matcher.deep_copy(), param)

    def _get_tokenizer(self) -> LLTokenizer:
        import llguidance

        if self._tokenizer is None:
            self._tokenizer = llguidance.LLTokenizer(
                self._source(), n_vocab=self._vocabulary, eos_token=self._end_tokens
            )
        return self._tokenizer


class GrammarConstraint:
    """The tokens that continue an output by a grammar; a `TokenConstraint`."""

    def __init__(self, matcher: LLMatcher, param: str) -> None:
        self._matcher = matcher
        self._param = param

    @property
    def param(self) -> str:
        return self._param

    def mask(self) -> NDArray[np.uint32]:
        return np.frombuffer(self._matcher.compute_bitmask(), np.uint32)

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"the grammar cannot continue: {self._matcher.get_error()[:_SHOWN]}")

    @property
    def finished(self) -> bool:
        return self._matcher.is_stopped()


def _source(kind: str, value: Any, param: str) -> str:
    """The library's form of a grammar."""
    import llguidance

    try:
        if kind in ("json_schema", "call"):
            options: Any = _JSON_SPACE if kind == "json_schema" else _CALL_SPACE
            return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(value), options)
        if kind == "regex":
            return llguidance.LLMatcher.grammar_from_regex(value)
        if kind == "choice":
            alternatives = " | ".join(json.dumps(text, ensure_ascii=False) for text in value)
            return llguidance.LLMatcher.grammar_from_lark(f"start: {alternatives}")
        return llguidance.grammar_from("grammar", value)
    except Exception as error:  # the library raises plain exceptions for malformed grammars
        raise _refusal(param, str(error)) from error


def _refusal(param: str, message: str) -> RequestError:
    cause = " ".join(message.split())[:_SHOWN]
    return RequestError(f"{param} does not compile: {cause}", param=param, code="invalid_grammar")
