"""Declarations of API fields: type, default, description, limits and rules.

The types in `v1.py` are plain dataclasses. Each field is `Annotated` with one `Doc`,
and a class may have `RULES`. The schema of the CRD, the parser and the reference page
are all generated from these declarations. A rule exists twice, in CEL for the API
server and in Python for `parse`; contract tests run both on the same input.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from r1_common.kube.quantity import Quantity


@dataclass(frozen=True, slots=True)
class Doc:
    """Description and limits of one field, with the keywords of OpenAPI.

    `max_items` counts list items or map entries; `item_*` limit the strings inside.
    `keys` are the fields that identify an item (list type map); `unique` makes a
    list of scalars a set.
    """

    text: str
    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    min_items: int | None = None
    max_items: int | None = None
    item_max_length: int | None = None
    item_min_length: int | None = None
    item_pattern: str | None = None
    keys: tuple[str, ...] = ()
    unique: bool = False
    positive: bool = False
    """A quantity that must be above zero (default: zero or more)."""

    def of_items(self) -> "Doc":
        """The limits of the items."""
        return Doc(
            self.text,
            min_length=self.item_min_length,
            max_length=self.item_max_length,
            pattern=self.item_pattern,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule across the fields of one object; `cel` and `holds` are equivalent."""

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    """The JSON path of the invalid field, relative to the object; "" for the object itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """One field, for the schema, the parser and the reference page."""

    name: str
    """snake_case, as in Python"""
    json: str
    """camelCase, as in the API"""
    type: Any
    optional: bool
    """the type admits None: no default is filled in"""
    default: Any
    """MISSING when the field is required"""
    doc: Doc
    items: tuple[Any, Doc] | None = None
    """type and limits of list items or map values; None for a single value"""
    is_list: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING


def description(member: Member) -> str:
    """The name, the meaning and the limits of a field, as full sentences."""
    doc = member.doc
    text = f"{member.json} {doc.text}"
    if doc.minimum is not None and doc.maximum is not None:
        return f"{text} The value must be between {doc.minimum} and {doc.maximum}."
    return f"{text} The value must be above zero." if doc.positive else text


def default_sentence(member: Member) -> str:
    """The default of a scalar field as a sentence with a leading space; empty without one."""
    value = None if member.required else to_json(member.default)
    return "" if value in (None, "") or isinstance(value, list | dict) else f" Defaults to {value}."


def camel(name: str) -> str:
    """`max_replicas` -> `maxReplicas`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_MEMBERS: dict[type, tuple[Member, ...]] = {}


def members(cls: type) -> tuple[Member, ...]:
    """The declared fields of an API type, in order; cached per type."""
    if cls not in _MEMBERS:
        hints = get_type_hints(cls, include_extras=True)
        _MEMBERS[cls] = tuple(_member(field, hints[field.name]) for field in fields(cls))
    return _MEMBERS[cls]


def rules(cls: type) -> tuple[Rule, ...]:
    """The rules of a class (none by default)."""
    return tuple(getattr(cls, "RULES", ()))


def _member(field: "Field[Any]", hint: Any) -> Member:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"API field {field.name} has no Doc")
    inner, doc = get_args(hint)[:2]
    optional = False
    if get_origin(inner) in (Union, UnionType):
        alternatives = [kind for kind in get_args(inner) if kind is not NoneType]
        optional = len(alternatives) < len(get_args(inner))
        (inner,) = alternatives
    default = field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    items, container = None, get_origin(inner)
    if container is not None:
        items = (get_args(inner)[0 if container is tuple else 1], doc.of_items())
    return Member(
        field.name, camel(field.name), inner, optional, default, doc, items, container is tuple
    )


def to_json(value: Any, *, defaults: bool = True) -> Any:
    """Convert a typed value to JSON; None is omitted.

    Without `defaults`, fields with their default value are omitted too, so that the result
    does not change when a later version adds a field.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Quantity):
        return value.raw
    if isinstance(value, tuple | list):
        return [to_json(item, defaults=defaults) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item, defaults=defaults) for key, item in value.items()}
    if is_dataclass(value):
        result = {
            member.json: to_json(getattr(value, member.name), defaults=defaults)
            for member in members(type(value))
            if defaults or getattr(value, member.name) != member.default
        }
        return {key: item for key, item in result.items() if item is not None}
    return value
