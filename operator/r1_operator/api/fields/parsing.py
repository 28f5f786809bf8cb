"""Parser from JSON to the declared types, with one error per invalid field.

The parser follows the declarations of `declare.py` and rejects the same objects as the
schema of the CRD. It collects all errors.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any, TypeVar

from r1_common.kube.quantity import NotAQuantity, Quantity, parse_quantity
from r1_operator.api.fields.declare import Doc, Member, members, rules

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FieldError:
    """The path of an invalid field, and the error."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Invalid(ValueError):
    """The object is invalid; `errors` has one entry per invalid field."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in errors))


def read(
    cls: type[T], value: Any, path: str, errors: list[FieldError], *, strict: bool = False
) -> T | None:
    """Parse an instance of `cls`; on failure add to `errors` and return None."""
    if not isinstance(value, Mapping):
        errors.append(FieldError(path, f"must be an object, not {_kind(value)}"))
        return None
    before = len(errors)
    declared = members(cls)
    if strict:
        known = {member.json for member in declared}
        for key in value:
            if key not in known:
                errors.append(FieldError(f"{path}.{key}", "unknown field"))
    filled: dict[str, Any] = {}
    for member in declared:
        field_value = value.get(member.json)
        if field_value is not None:
            here = f"{path}.{member.json}"
            filled[member.name] = _member_value(member, field_value, here, errors, strict)
        elif member.default is MISSING:
            errors.append(FieldError(f"{path}.{member.json}", "is required"))
    if len(errors) > before:
        return None
    instance = cls(**filled)
    for rule in rules(cls):
        if not rule.holds(instance):
            where = f"{path}.{rule.field}" if rule.field else path
            errors.append(FieldError(where, rule.message))
    return instance if len(errors) == before else None


def _member_value(
    member: Member, value: Any, path: str, errors: list[FieldError], strict: bool
) -> Any:
    if member.items is None:
        return _scalar(member.type, member.doc, value, path, errors, strict)
    kind, inner = member.items
    if member.is_list:
        return _items(kind, inner, member.doc, value, path, errors, strict)
    return _entries(kind, inner, member.doc, value, path, errors)


def _items(
    kind: Any, inner: Doc, doc: Doc, value: Any, path: str, errors: list[FieldError], strict: bool
) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        errors.append(FieldError(path, f"must be a list, not {_kind(value)}"))
        return ()
    _count(len(value), doc, path, errors, "items")
    items = tuple(
        _scalar(kind, inner, item, f"{path}[{index}]", errors, strict)
        for index, item in enumerate(value)
    )
    if doc.unique:
        _refuse_repeats(items, path, "has this value", errors)
    for key in doc.keys:
        identities = [getattr(item, key, None) for item in items]
        _refuse_repeats(identities, path, f"has this {key}", errors)
    return items


def _refuse_repeats(
    identities: Sequence[Any], path: str, detail: str, errors: list[FieldError]
) -> None:
    identities_so_far: set[Any] = set()
    for index, identity in enumerate(identities):
        if identity is not None and identity in identities_so_far:
            errors.append(FieldError(f"{path}[{index}]", f"another item {detail}"))
        identities_so_far.add(identity)


def _entries(
    kind: Any, inner: Doc, doc: Doc, value: Any, path: str, errors: list[FieldError]
) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        errors.append(FieldError(path, f"must be an object, not {_kind(value)}"))
        return {}
    _count(len(value), doc, path, errors, "entries")
    return {
        key: item if kind is Any else _scalar(kind, inner, item, f"{path}.{key}", errors, False)
        for key, item in value.items()
    }


def _scalar(
    kind: Any, doc: Doc, value: Any, path: str, errors: list[FieldError], strict: bool
) -> Any:
    if kind is int:
        return _integer(doc, value, path, errors)
    if kind is str:
        return _text(doc, value, path, errors)
    if kind is Quantity:
        return _quantity(doc, value, path, errors)
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(item.value) for item in kind)
            errors.append(FieldError(path, f"must be one of {known}, not {value!r}"))
            return None
    return read(kind, value, path, errors, strict=strict)


def _integer(doc: Doc, value: Any, path: str, errors: list[FieldError]) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        errors.append(FieldError(path, f"must be an integer, not {_kind(value)}"))
        return 0
    if doc.minimum is not None and value < doc.minimum:
        errors.append(FieldError(path, f"must be at least {doc.minimum}, not {value}"))
    if doc.maximum is not None and value > doc.maximum:
        errors.append(FieldError(path, f"must be at most {doc.maximum}, not {value}"))
    return value


def _text(doc: Doc, value: Any, path: str, errors: list[FieldError]) -> str:
    if not isinstance(value, str):
        errors.append(FieldError(path, f"must be a string, not {_kind(value)}"))
        return ""
    if doc.min_length is not None and len(value) < doc.min_length:
        errors.append(FieldError(path, "must not be empty"))
    elif doc.max_length is not None and len(value) > doc.max_length:
        errors.append(FieldError(path, f"must have at most {doc.max_length} characters"))
    elif doc.pattern is not None and not matches(doc.pattern, value):
        errors.append(FieldError(path, f"must match {doc.pattern}, not {value[:80]!r}"))
    return value


def matches(pattern: str, text: str) -> bool:
    """Whether the text matches as in OpenAPI: no line feed may follow `$`."""
    return _compiled(pattern).search(text) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\$$", r"\\Z", pattern))


def _quantity(doc: Doc, value: Any, path: str, errors: list[FieldError]) -> Quantity | None:
    if isinstance(value, str) and doc.max_length is not None and len(value) > doc.max_length:
        errors.append(FieldError(path, f"must have at most {doc.max_length} characters"))
        return None
    try:
        quantity = parse_quantity(value)
    except NotAQuantity as error:
        errors.append(FieldError(path, str(error)))
        return None
    if doc.positive and quantity.value <= 0:
        errors.append(FieldError(path, f"must be greater than zero, not {quantity}"))
    elif quantity.value < 0:
        errors.append(FieldError(path, f"must not be negative, not {quantity}"))
    return quantity


def _count(count: int, doc: Doc, path: str, errors: list[FieldError], what: str) -> None:
    if doc.min_items is not None and count < doc.min_items:
        errors.append(FieldError(path, f"must have at least {doc.min_items} {what}"))
    if doc.max_items is not None and count > doc.max_items:
        errors.append(FieldError(path, f"must have at most {doc.max_items} {what}"))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return "a list" if isinstance(value, list | tuple) else "an object"
