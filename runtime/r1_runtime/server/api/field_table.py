"""Tables of a body's fields. One entry validates a field and describes it in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from r1_runtime.server.api.fields import as_number, as_whole, bad_field

# Converts a value that is not null; the second argument names the field in errors.
Read = Callable[[object, str], Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body.

    Attributes:
        name: JSON key.
        schema: JSON schema of valid values; a field may always be null, which is the same as absent.
        read: validates and converts a value. Raises RequestError (400), naming the field.
        text: description, one line.
        required: whether the body must have the field.
    """

    name: str
    schema: Schema
    read: Read
    text: str = ""
    required: bool = False


FieldTable = Mapping[str, Field]


def table(*fields: Field) -> FieldTable:
    """A table by name; a later field replaces an earlier one of the same name."""
    return {field.name: field for field in fields}


def required(field: Field) -> Field:
    return replace(field, required=True)


def read_fields(body: object, fields: FieldTable, prefix: str = "") -> dict[str, Any]:
    """The converted values of all fields that are present and not null.

    Raises:
        RequestError: 400: the body is no object, or has an unknown or invalid field, or lacks one.
    """
    if not isinstance(body, Mapping):
        where = prefix.rstrip(".") or None
        raise bad_field(where, f"{where or 'the body'} must be a JSON object")
    values = {}
    for name, value in body.items():
        if value is None:
            continue
        field = fields.get(name)
        if field is None:
            param = f"{prefix}{name}"[:200]
            message = f"{param} is not a known parameter; leave it out"
            raise bad_field(param, message, "unknown_parameter")
        values[name] = field.read(value, prefix + name)
    for name, field in fields.items():
        if field.required and name not in values:
            raise bad_field(prefix + name, f"{prefix}{name} is required", "missing_parameter")
    return values


def flag(name: str, text: str = "") -> Field:
    """True or false."""

    def read(value: object, param: str) -> bool:
        if not isinstance(value, bool):
            raise bad_field(param, f"{param} must be true or false")
        return value

    return Field(name, {"type": "boolean"}, read, text)


def number(name: str, least: float, most: float, text: str = "", *, above: bool = False) -> Field:
    """A number in [least, most], or in (least, most] with `above`."""

    def read(value: object, param: str) -> float:
        read = as_number(value)
        if read is None or not least <= read <= most:
            raise bad_field(param, f"{param} must be a number between {least:g} and {most:g}")
        if above and read == least:
            raise bad_field(param, f"{param} must be above {least:g} and at most {most:g}")
        return read

    lower = "exclusiveMinimum" if above else "minimum"
    return Field(name, {"type": "number", lower: least, "maximum": most}, read, text)


def whole(name: str, least: int | None = None, most: int | None = None, text: str = "") -> Field:
    """A whole number of 64 bits in [least, most]."""

    def read(value: object, param: str) -> int:
        read = as_whole(value)
        if read is None:
            raise bad_field(param, f"{param} must be a whole number")
        if least is not None and read < least:
            raise bad_field(param, f"{param} must be at least {least}")
        if most is not None and read > most:
            raise bad_field(param, f"{param} must be at most {most}")
        return read

    bounds = {"minimum": least, "maximum": most}
    schema = {"type": "integer"} | {key: one for key, one in bounds.items() if one is not None}
    return Field(name, schema, read, text)


def string(name: str, text: str = "", *, empty: bool = True, longest: int | None = None) -> Field:
    """Text, by default of any length."""

    def read(value: object, param: str) -> str:
        if not isinstance(value, str):
            raise bad_field(param, f"{param} must be text")
        if not value and not empty:
            raise bad_field(param, f"{param} must not be empty")
        if longest is not None and len(value) > longest:
            raise bad_field(param, f"{param} may have at most {longest} characters")
        return value

    schema: dict[str, Any] = {"type": "string"} | ({} if empty else {"minLength": 1})
    return Field(name, schema | ({} if longest is None else {"maxLength": longest}), read, text)


def one_of(name: str, values: Iterable[str], text: str = "") -> Field:
    """One of some texts."""
    known = tuple(values)

    def read(value: object, param: str) -> str:
        if not isinstance(value, str) or value not in known:
            raise bad_field(param, f"{param} must be one of {', '.join(known)}")
        return value

    return Field(name, {"type": "string", "enum": list(known)}, read, text)


def listing(
    name: str, item: Field, text: str = "", *, least: int = 0, most: int | None = None
) -> Field:
    """A list whose items are read by `item`."""

    def read(value: object, param: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise bad_field(param, f"{param} must be a list")
        if len(value) < least:
            raise bad_field(param, f"{param} must have at least {least} items")
        if most is not None and len(value) > most:
            raise bad_field(param, f"{param} may have at most {most} items")
        for at, one in enumerate(value):
            if one is None:
                raise bad_field(f"{param}[{at}]", f"{param}[{at}] must not be null")
        return tuple(item.read(one, f"{param}[{at}]") for at, one in enumerate(value))

    schema: dict[str, Any] = {"type": "array", "items": dict(item.schema)}
    schema |= {"minItems": least} if least else {}
    return Field(name, schema | ({} if most is None else {"maxItems": most}), read, text)


def json_object(name: str, text: str = "") -> Field:
    """An object with any keys."""

    def read(value: object, param: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise bad_field(param, f"{param} must be an object")
        return value

    return Field(name, {"type": "object"}, read, text)


def nested(name: str, fields: FieldTable, text: str = "") -> Field:
    """An object with the fields of another table; its value is the dictionary of `read_fields`."""

    def read(value: object, param: str) -> dict[str, Any]:
        return read_fields(value, fields, f"{param}.")

    return Field(name, object_schema(fields), read, text)


def object_schema(fields: FieldTable) -> dict[str, Any]:
    """JSON schema of an object with these fields, each of which may be null unless required."""
    properties = {
        name: (dict(field.schema) if field.required else _nullable(field.schema))
        | ({"description": field.text} if field.text else {})
        for name, field in fields.items()
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    needed = [name for name, field in fields.items() if field.required]
    return schema | ({"required": needed} if needed else {})


def _nullable(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [dict(schema), {"type": "null"}]}
