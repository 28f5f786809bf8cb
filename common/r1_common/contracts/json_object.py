"""Typed fields of a JSON object from another process; an error names the field by its path.

Unknown fields are ignored: the writer may be of a later release.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Fields of one object. ``path`` begins the messages: ``routes.default/chat``; ``error`` is raised."""

    fields: Mapping[str, object]
    path: str
    error: type[ValueError]

    @classmethod
    def root(cls, document: object, subject: str, error: type[ValueError]) -> JsonObject:
        """The outermost object; ``subject`` names it where it is no object."""
        if not isinstance(document, Mapping):
            raise error(f"{subject} must be a JSON object")
        return cls(document, "", error)

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        """A string."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return value

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def number(self, name: str, least: float = -LARGEST) -> float:
        """A finite number, at least ``least``."""
        return self.to_number(name, self.fields.get(name), least)

    def optional_number(self, name: str, least: float = -LARGEST) -> float | None:
        """A finite number, None where the field is absent or null."""
        value = self.fields.get(name)
        return None if value is None else self.to_number(name, value, least)

    def numbers(self, name: str, least: float = -LARGEST) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self.to_number(name, value, least) for value in self.list(name))

    def numbers_by_key(self, name: str, least: float = -LARGEST) -> dict[str, float]:
        """An object whose values are finite numbers."""
        child = self.child(name)
        return {key: child.to_number(key, value, least) for key, value in child.fields.items()}

    def list(self, name: str) -> list[object]:
        """A list of any content."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "must be a list")
        return value

    def child(self, name: str) -> JsonObject:
        """A nested object."""
        value = self.fields.get(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, "must be an object")
        return JsonObject(value, self._path(name), self.error)

    def children(self, name: str) -> Iterator[JsonObject]:
        """The objects of a list."""
        for index, value in enumerate(self.list(name)):
            if not isinstance(value, Mapping):
                raise self.wrong(f"{name}[{index}]", "must be an object")
            yield JsonObject(value, self._path(f"{name}[{index}]"), self.error)

    def by_key(self, name: str, parse: Callable[[JsonObject], T]) -> dict[str, T]:
        """An object whose values are objects."""
        child = self.child(name)
        return {key: parse(child.child(key)) for key in child.fields}

    def to_number(self, name: str, value: object, least: float) -> float:
        """``value`` of the field ``name`` as a finite number, at least ``least``."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        if not least <= value <= LARGEST:  # rejects NaN and integers beyond the range of a float
            bound = "" if least == -LARGEST else f" and at least {least:g}"
            raise self.wrong(name, f"must be finite{bound}")
        return float(value)

    def wrong(self, name: str, rule: str) -> ValueError:
        """The error of the field ``name``."""
        return self.error(f"{self._path(name)} {rule}")

    def _path(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
