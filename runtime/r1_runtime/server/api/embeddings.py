"""Bodies of `/v1/embeddings`."""

from __future__ import annotations

from dataclasses import dataclass

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.sequence import Pooling
from r1_runtime.server.api import neutral_fields
from r1_runtime.server.api.completion import prompt_schema, read_prompts
from r1_runtime.server.api.field_table import (
    Field,
    one_of,
    read_fields,
    required,
    string,
    table,
    whole,
)
from r1_runtime.server.api.fields import bad_field
from r1_runtime.server.api.generation_request import GenerationRequest

_MOST = 2**31 - 1
EMBEDDING_FIELDS = table(
    *neutral_fields.RECORDS,
    neutral_fields.only("truncate_prompt_tokens"),
    neutral_fields.only("add_special_tokens", True),
    neutral_fields.only_numbers("priority", 0),
    required(string("model", "Name of the model.", empty=False)),
    required(Field("input", prompt_schema(1), read_prompts, "One text or several.")),
    one_of("encoding_format", ("float", "base64"), "base64: float32, little-endian."),
    whole("dimensions", 1, _MOST, "Keep the first values of each vector, at length 1 again."),
    one_of("pooling", tuple(Pooling), "Hidden state of the last token (default), or their mean."),
    string("cache_salt", "Only requests of the same salt share cached prompts.", empty=False),
)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A parsed body.

    Attributes:
        generation: the prompts and how they are pooled.
        base64: vectors as base64 of float32 instead of lists of numbers.
        dimensions: values of a vector to return; None for all.
    """

    generation: GenerationRequest
    base64: bool
    dimensions: int | None


def parse_embeddings(body: object) -> EmbeddingRequest:
    """Parse a body. Raises RequestError (400), naming the field."""
    values = read_fields(body, EMBEDDING_FIELDS)
    if any(prompt.text == "" for prompt in values["input"]):
        raise bad_field("input", "input must not have an empty text")
    generation = GenerationRequest(
        model=values["model"],
        prompts=values["input"],
        params=SamplingParams(max_tokens=1, temperature=0),
        limited=True,
        cache_salt=values.get("cache_salt"),
        pooling=Pooling(values.get("pooling", Pooling.LAST)),
    )
    return EmbeddingRequest(
        generation, values.get("encoding_format") == "base64", values.get("dimensions")
    )
