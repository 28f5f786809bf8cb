"""Typed access to the fields of a `config.json`; an error names the field, its value and the fix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Never, TypeGuard

from r1_runtime.errors import ModelLoadError


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class ConfigFields:
    """The fields of a configuration; null is the same as absent.

    Args:
        raw: the parsed JSON object.
        family: the model_type.
        where: the file, for messages.
        positions: longest sequence that will be computed, or None for the model's own.
    """

    def __init__(
        self, raw: Mapping[str, Any], family: str, where: object, positions: int | None = None
    ) -> None:
        self.raw = raw
        self.family = family
        self.where = where
        self._positions = positions

    def without(self, *prefixes: str) -> ConfigFields:
        """The fields whose names do not begin with one of the prefixes."""
        kept = {name: value for name, value in self.raw.items() if not name.startswith(prefixes)}
        return ConfigFields(kept, self.family, self.where, self._positions)

    def get(self, name: str) -> Any:
        return self.raw.get(name)

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self._not(name, value, f"a whole number of at least {least}")
        return int(value)

    def optional_count(self, name: str) -> int | None:
        return None if self.get(name) is None else self.count(name)

    def number(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default)
        if not is_number(value) or not math.isfinite(value):
            self._not(name, value, "a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            self._not(name, value, "true or false")
        return bool(value)

    def only(self, name: str, implemented: object) -> None:
        """Refuse every value but one."""
        value = self.get(name)
        if value is not None and value != implemented:
            raise self.error(
                f"{name} is {value!r}, which is not implemented.", f"use {implemented!r}."
            )

    def token_id(self, name: str) -> int | None:
        value = self.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            self._not(name, value, "an integer")
        return value

    def token_ids(self, name: str) -> tuple[int, ...]:
        """The values of a field that has one integer, a list of integers, or nothing."""
        value = self.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(item, bool) or not isinstance(item, int) for item in values):
            self._not(name, value, "an integer or a list of integers")
        return tuple(values)

    def max_positions(self) -> int:
        """Longest sequence in tokens: the model's own, or fewer where the caller computes fewer."""
        own = self.count("max_position_embeddings")
        return own if self._positions is None else min(own, self._positions)

    def dtype(self) -> str | None:
        """Data type of the stored weights; `torch_dtype` is the older name of the field."""
        value = self.get("dtype") or self.get("torch_dtype")
        return None if value is None else str(value).removeprefix("torch.")

    def error(self, what: str, fix: str) -> ModelLoadError:
        return ModelLoadError(self.where, what, fix)

    def _value(self, name: str, default: float | None) -> Any:
        value = self.get(name)
        if value is not None:
            return value
        if default is None:
            raise self.error(f"{name} is missing.", "copy the model again.")
        return default

    def _not(self, name: str, value: object, wanted: str) -> Never:
        raise self.error(f"{name} is {value!r}.", f"use {wanted}.")
