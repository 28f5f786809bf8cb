"""A parsed request for generation, common to all endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.sequence import Pooling
from r1_runtime.server.api.fields import bad_field

# Rank of each class in the header `x-r1-priority`, which the gateway sets.
_PRIORITIES: Mapping[str, int] = {"Q1": 0, "Q2": 1, "Q3": 2}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; exactly one field is set."""

    messages: tuple[Mapping[str, Any], ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format that the output must have.

    Attributes:
        kind: how `value` describes it; `call` is the JSON schema of a call.
        value: a JSON schema, a regular expression, a list of texts, or a grammar in Lark or GBNF.
        param: the field that it came from.
    """

    kind: Literal["json_schema", "call", "regex", "choice", "grammar"]
    value: Any
    param: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """Functions that the model may call.

    Attributes:
        definitions: OpenAI's tool objects, as the client sent them.
        choice: `auto`, `required`, or the name of the one function that must be called.
        named: whether `choice` is a name.
        parallel: whether a response may have more than one call.
    """

    definitions: tuple[Mapping[str, Any], ...]
    choice: str = "auto"
    named: bool = False
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A parsed request.

    Attributes:
        model: requested name.
        prompts: at least one; each has `n` outputs.
        params: sampling parameters of every output.
        limited: whether `params.max_tokens` is a limit of the client, the endpoint or the model; else
            the rest of the context is the limit.
        n: outputs per prompt.
        stream: whether the response is a stream of events.
        include_usage: a last event with the usage.
        continuous_usage: the usage in every event.
        echo: the prompt precedes the output.
        no_output: generates nothing after an echo (`max_tokens: 0`).
        template_variables: of the chat template.
        tools: functions that the model may call.
        format: of the output.
        include_reasoning: whether the response has the text of the reasoning.
        thinking_budget: tokens of reasoning at most.
        priority: rank of the request's class; 0 is computed first.
        cache_salt: requests with different salts share no cached prompt.
        pooling: return a vector of each prompt instead of an output.
        token_ids: the response has the tokens of prompt and output.
        prompt_logprobs: the response has log-probabilities of the prompt, in vLLM's form.
    """

    model: str
    prompts: tuple[Prompt, ...]
    params: SamplingParams
    limited: bool
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    echo: bool = False
    no_output: bool = False
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    tools: ToolRequest | None = None
    format: OutputFormat | None = None
    include_reasoning: bool = True
    thinking_budget: int | None = None
    priority: int = 1
    cache_salt: str | None = None
    pooling: Pooling | None = None
    token_ids: bool = False
    prompt_logprobs: bool = False


def parse_priority(header: str | None) -> int:
    """The rank of a request's class: 0 is computed first; the default is Q2.

    Raises:
        RequestError: 400, no such class.
    """
    if header is None:
        return _PRIORITIES["Q2"]
    priority = _PRIORITIES.get(header.strip().upper())
    if priority is None:
        raise bad_field(
            "x-r1-priority",
            f"x-r1-priority is {header[:40]!r}; it must be one of {', '.join(_PRIORITIES)}",
        )
    return priority
