"""Reasoning between `<think>` and `</think>`, separated from the content that follows.

Templates of reasoning models may end with the begin tag (DeepSeek-R1), so an output may begin inside
of the reasoning. White space beside the tags belongs to neither part.
"""

from __future__ import annotations

from r1_runtime.output_parsing.delta import Delta, OutputParser
from r1_runtime.output_parsing.markers import MarkerBuffer

BEGIN, END = "<think>", "</think>"


class ReasoningParser:
    """Splits reasoning from content; another parser reads the content.

    Args:
        content: parser of the text after the reasoning.
        inside: whether the prompt ends inside of the reasoning.
    """

    def __init__(self, content: OutputParser, *, inside: bool) -> None:
        self._content = content
        self._buffer = MarkerBuffer()
        self._step = self._reasoning if inside else self._start
        self._space = ""  # white space that is reasoning only if further reasoning follows
        self._begun = False  # whether the current part has text

    def push(self, text: str) -> Delta:
        self._buffer.push(text)
        return self._run()

    def finish(self) -> Delta:
        rest = self._buffer.take_all()
        if self._step == self._reasoning:
            delta = self._reasoning_text(rest)
        elif self._step == self._start:
            delta = self._content.push(rest)
        else:
            delta = self._content_text(rest)
        return delta + self._content.finish()

    def _run(self) -> Delta:
        delta = Delta()
        while True:
            step = self._step
            delta += step()
            if self._step == step:
                return delta

    def _start(self) -> Delta:
        """Before the first text: a begin tag, or content."""
        text = self._buffer.text.lstrip()
        if text.startswith(BEGIN):
            self._buffer.text = text[len(BEGIN) :]
            self._step = self._reasoning
        elif not BEGIN.startswith(text):
            self._begun = True
            self._step = self._rest
        return Delta()

    def _reasoning(self) -> Delta:
        text, marker = self._buffer.take(END)
        delta = self._reasoning_text(text)
        if marker is not None:
            self._begun = False
            self._step = self._rest
        return delta

    def _rest(self) -> Delta:
        return self._content_text(self._buffer.take_all())

    def _reasoning_text(self, text: str) -> Delta:
        text = self._space + text
        if not self._begun:
            text = text.lstrip()
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._begun = self._begun or bool(shown)
        return Delta(reasoning=shown)

    def _content_text(self, text: str) -> Delta:
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return self._content.push(text) if text else Delta()
