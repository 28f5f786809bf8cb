"""Calls as a Python list, `[f(a=1), g(b="x")]` (Llama 3.2 and 4), read at the end of the output."""

from __future__ import annotations

import ast
import json

from r1_runtime.output_parsing.delta import Delta, ToolCallDelta


class PythonicCalls:
    """An output that begins with `[` is buffered; it is content unless it is a list of calls."""

    def __init__(self) -> None:
        self._text = ""
        self._content = False

    def push(self, text: str) -> Delta:
        self._text += text
        begin = self._text.lstrip()[:1]
        self._content = self._content or begin not in ("", "[")
        if not self._content:
            return Delta()
        shown, self._text = self._text, ""
        return Delta(shown)

    def finish(self) -> Delta:
        text, self._text = self._text, ""
        calls = _calls(text)
        return Delta(text) if calls is None else Delta(calls=calls)


def _calls(text: str) -> tuple[ToolCallDelta, ...] | None:
    """The calls of a list; None for any other text."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return tuple(_call(index, node) for index, node in enumerate(tree.elts))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _call(index: int, node: ast.expr) -> ToolCallDelta:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with named arguments")
    arguments = {one.arg: ast.literal_eval(one.value) for one in node.keywords}
    if None in arguments:
        raise ValueError("arguments without a name")
    return ToolCallDelta(index, ast.unparse(node.func), json.dumps(arguments, ensure_ascii=False))
