"""Generator of the reference pages in `docs/reference/`.

`python -m r1_operator.api.reference` writes the pages from the API types; a test compares.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from r1_common.kube.quantity import Quantity
from r1_operator.api import meanings, names
from r1_operator.api.backtest.spec import IMMUTABLE_RULE, BacktestSpec
from r1_operator.api.backtest.spec import NAME_RULE as BACKTEST_NAME_RULE
from r1_operator.api.backtest.status import BACKTEST_STATUS
from r1_operator.api.fields.declare import Member, description, members, rules, to_json
from r1_operator.api.status import STATUS
from r1_operator.api.v1 import NAME_RULE, Spec

FOLDER = Path("docs/reference")

_RESOURCE_HEAD = f"""\
# {names.KIND}

Generated from `r1_operator.api` by `make crds`; a test compares.

`apiVersion: {names.API_VERSION}`, `kind: {names.KIND}`, short name `{names.SHORT_NAME}`. \
Only `spec` is required; the empty object takes every default. `metadata.name`: {NAME_RULE}.

A *quantity* is an integer or a string such as `500m`, `"0.5"` or `8Gi`. The API server rejects \
values outside the stated bounds. kubectl rejects unknown fields.
"""

_ANNOTATIONS = f"""\
## metadata.annotations

`{names.Annotation.REFRESH}`: any text. An upgrade of the operator restarts no pods: they keep their \
runtime image and pod layout until the spec changes. A change of this annotation rolls out the newest \
image and layout without a change of the spec.
"""

_TABLE = "| field | type | default | description |\n|---|---|---|---|"

_TEMPLATE_NOTE = """\
The pod of the operator meets the `restricted` Pod Security level. The template is merged over this \
pod and may loosen it (`securityContext`, `volumes` of other kinds). The Pod Security level of the \
namespace then decides about admission.
"""

_CONDITIONS_HEAD = """\
# Conditions and reasons

Generated from `r1_operator.api` by `make crds`; a test compares.

Reasons are stable: alerts and scripts may rely on them. Messages are for people and may change.
"""


_BACKTEST_HEAD = f"""\
# {names.BACKTEST_KIND}

Generated from `r1_operator.api` by `make crds`; a test compares. Guide: \
[backtest.md](../backtest.md).

`apiVersion: {names.API_VERSION}`, `kind: {names.BACKTEST_KIND}`, short name \
`{names.BACKTEST_SHORT_NAME}`. `metadata.name`: {BACKTEST_NAME_RULE}. The {IMMUTABLE_RULE}.
"""


def backtest_page() -> str:
    """`docs/reference/r1backtest.md`."""
    lines = ["## Conditions", "", "| condition | present | meaning |", "|---|---|---|"]
    for kind, meaning in meanings.BACKTEST_CONDITIONS.items():
        present = "always" if kind is names.BacktestCondition.COMPLETE else "only while True"
        lines.append(f"| `{kind}` | {present} | {meaning} |")
    lines += ["", "| reason | meaning | action |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {meaning} | {action} |"
        for name, (meaning, action) in meanings.BACKTEST_REASONS.items()
    ]
    status = _status_section(BACKTEST_STATUS, "The conditions and their reasons are listed below.")
    return "\n".join([_BACKTEST_HEAD, *_sections(BacktestSpec, "spec"), status, *lines]) + "\n"


def resource_page() -> str:
    """`docs/reference/r1inference.md`."""
    parts = [
        _RESOURCE_HEAD,
        _ANNOTATIONS,
        *_sections(Spec, "spec"),
        _status_section(STATUS, _SEE_CONDITIONS),
    ]
    return "\n".join(parts)


def conditions_page() -> str:
    """`docs/reference/conditions.md`."""
    lines = [_CONDITIONS_HEAD, "| condition | present | meaning |", "|---|---|---|"]
    for kind in names.ConditionType:
        present = "always" if kind in names.ALWAYS else "only while True"
        lines.append(f"| `{kind}` | {present} | {meanings.CONDITIONS[kind]} |")
    for title, group in meanings.REASONS.items():
        lines += ["", f"## {title}", "", "| reason | meaning | action |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {meaning} | {action} |" for name, (meaning, action) in group.items()
        ]
    return "\n".join(lines) + "\n"


def _sections(cls: type, path: str) -> Iterator[str]:
    rows = [_row(member) for member in members(cls)]
    notes = [f"- {rule.message}" for rule in rules(cls)]
    body = "\n".join([f"## {path}", "", _TABLE, *rows])
    yield body + ("\n\n" + "\n".join(notes) if notes else "") + "\n"
    if path == "spec.template":
        yield _TEMPLATE_NOTE
    for member in members(cls):
        inner, suffix = _inner(member.type)
        if hasattr(inner, "__dataclass_fields__") and inner is not Quantity:
            yield from _sections(inner, f"{path}.{member.json}{suffix}")


def _inner(kind: Any) -> tuple[Any, str]:
    if get_origin(kind) is tuple:
        return get_args(kind)[0], "[]"
    return kind, ""


def _row(member: Member) -> str:
    return (
        f"| `{member.json}` | {_type(member.type)} | {_default(member)} | {description(member)} |"
    )


def _type(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is tuple:
        return f"list of {_type(get_args(kind)[0])}"
    if origin is not None and issubclass(origin, Mapping):
        value = get_args(kind)[1]
        return "object" if value is Any else f"map to {_type(value)}"
    if kind is Quantity:
        return "quantity"
    if issubclass(kind, Enum):
        return " \\| ".join(f"`{item.value}`" for item in kind)
    return {int: "integer", str: "string"}.get(kind, "object")


def _default(member: Member) -> str:
    if member.default is MISSING:
        return "required"
    value = to_json(member.default)
    if value in (None, [], {}) or isinstance(value, dict):
        return ""
    return f"`{json.dumps(value) if isinstance(value, list) else value}`"


_SEE_CONDITIONS = "The conditions and their reasons are listed in [conditions.md](conditions.md)."


def _status_section(schema: Mapping[str, Any], intro: str) -> str:
    rows = [f"| `{name}` | {node['description']} |" for name, node in schema["properties"].items()]
    head = ["## status", "", intro, ""]
    return "\n".join([*head, "| field | description |", "|---|---|", *rows]) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "r1inference.md").write_text(resource_page())
    (folder / "r1backtest.md").write_text(backtest_page())
    (folder / "conditions.md").write_text(conditions_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
