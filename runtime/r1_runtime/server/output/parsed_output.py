"""New output of a chat as parts of a message, as far as the request wants them."""

from __future__ import annotations

from dataclasses import replace

from r1_runtime.engine.messages import Output
from r1_runtime.output_parsing.delta import Delta, OutputParser
from r1_runtime.server.api.generation_request import GenerationRequest


def parsed_output(parser: OutputParser, output: Output, request: GenerationRequest) -> Delta:
    """The parts of new output: without reasoning or further calls where those are not wanted."""
    delta = parser.push(output.text)
    if output.finish is not None:
        delta += parser.finish()
    tools = request.tools
    if tools is not None and not tools.parallel:
        delta = replace(delta, calls=tuple(call for call in delta.calls if call.index == 0))
    return delta if request.include_reasoning else replace(delta, reasoning="")
