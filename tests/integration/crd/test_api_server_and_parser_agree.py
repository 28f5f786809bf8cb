"""The API server and `parse` accept the same objects.

Single fields of a good manifest are set to values at and beyond their limits and to
values of wrong kinds; the API server and the parser read each. The fields and limits come from the types.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from r1_common.kube.quantity import Quantity
from r1_operator.api.fields.declare import Member, members
from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.v1 import Spec, parse

pytestmark = pytest.mark.apiserver

GOOD = yaml.safe_load(Path(__file__).with_name("bad_manifests.yaml").read_text())["good"]
# No 1.0: the API server takes it for an integer where no CEL rule reads it, and stores 1.
WRONG_KINDS: list[Any] = [None, True, 1, -1, 0, 1.5, "", "1", "x", [], ["x"], {}, {"x": "y"}]
QUANTITIES: list[Any] = [
    *("0.5", ".5", "5.", "1e3", "1E3", "1e-3", "1e", "E", "1Ei", "100E", "1e400", "-0", "+1"),
    *("0n", "1n", "0.1n", "1k", "1K", "1Ki", "1ki", "1 ", " 1", "1_0", "0x1", "1m", "NaN", "-1n"),
    *("9223372036854775807", "9223372036854775808", "1" * 32, "1" * 33, "٣", "1.2.3", "--1"),
]
TEXTS: list[Any] = [
    *("a", "A", "a b", "a/b", "/a", "..", "a/../b", "a..b", "-a", "a-", "é", "a\n", "\n", "x\ty"),
    *("--port", "--port=1", "--portal", "--model", "--model=x=y", "demo", "a.b", "a_b", "a:1"),
]

Place = tuple[str | int, ...]


def places(cls: type, path: Place) -> Iterator[tuple[Place, Member]]:
    for member in members(cls):
        here: Place = (*path, member.json)
        yield here, member
        inner = member.type
        if get_origin(inner) is tuple:
            inner, here = get_args(inner)[0], (*here, 0)
        if hasattr(inner, "__dataclass_fields__") and inner is not Quantity:
            yield from places(inner, here)
        elif here[-1] == 0:
            yield here, member


def candidates(member: Member, path: Place) -> list[Any]:
    doc, kind = member.doc, member.type
    values = list(WRONG_KINDS)
    if get_origin(kind) is tuple and path[-1] == 0:
        kind = get_args(kind)[0]
        lengths = (doc.item_max_length,)
    else:
        lengths = (doc.max_length,)
    if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        inner = get_args(kind)[1]
        samples = QUANTITIES if inner is Quantity else TEXTS
        values += [{"cpu": one} for one in samples] if inner is not Any else []
        values += [{f"k{index}": "1" for index in range(count)} for count in (16, 17, 64, 65)]
        values += [{"deepseek.ai/x": "1"}, {"app.kubernetes.io/name": "1"}]
    if kind is int:
        for edge in (doc.minimum, doc.maximum):
            assert edge is not None
            values += [edge - 1, edge, edge + 1]
    if kind is Quantity:
        values += QUANTITIES
    if kind is str:
        values += TEXTS
        values += ["a" * (length + more) for length in lengths if length for more in (0, 1)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        values += [item.value for item in kind] + [item.value.lower() for item in kind]
    return values


def ask_server(create: Callable[..., dict[str, Any]], manifest: dict[str, Any]) -> Any:
    """The stored object, None if it was rejected."""
    try:
        return create(manifest)
    except ApiException as error:
        if error.status is None or not 400 <= error.status < 500:
            raise
        return None


def ask_parse(manifest: dict[str, Any]) -> Any:
    """The resource, or the error."""
    try:
        return parse(manifest, strict=True)
    except Invalid as error:
        return error


CASES = list(places(Spec, ("spec",)))


@pytest.mark.parametrize(
    ("path", "member"), CASES, ids=[".".join(map(str, path[1:])) for path, _ in CASES]
)
def test_api_server_and_parser_agree(
    path: Place, member: Member, create: Callable[..., dict[str, Any]]
) -> None:
    disagreements = []
    for value in candidates(member, path):
        manifest = copy.deepcopy(GOOD)
        place = manifest
        for part in path[:-1]:
            if isinstance(part, str) and part not in place:
                place[part] = {}
            place = place[part]
        place[path[-1]] = value
        stored, parsed = ask_server(create, manifest), ask_parse(manifest)
        if (stored is None) != isinstance(parsed, Invalid):
            answer = "refused" if stored is None else "taken"
            disagreements.append((value, f"the server: {answer}", f"parse: {parsed!s:.300}"))
        elif stored is not None and parse(stored).spec != parsed.spec:
            disagreements.append((value, "stored as something else", ""))
    assert not disagreements
