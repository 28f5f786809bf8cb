"""Priority class of a request; the classes themselves are ``r1_common.contracts.priority_classes``."""

from __future__ import annotations

from r1_common.contracts.priority_classes import (
    BY_NAME,
    CLASS_NAMES,
    CLASSES,
    DEFAULT_POLICIES,
    ClassPolicy,
    PriorityClass,
    UnknownClass,
    parse_class,
)

__all__ = [
    "BY_NAME",
    "CLASSES",
    "CLASS_NAMES",
    "DEFAULT_POLICIES",
    "ClassPolicy",
    "PriorityClass",
    "UnknownClass",
    "choose_class",
    "parse_class",
]


def choose_class(
    asked: str | None,
    *,
    route_default: PriorityClass,
    key_default: PriorityClass | None = None,
    key_limit: PriorityClass | None = None,
) -> PriorityClass:
    """Class of a request: what it asked for, else its key's, else the route's; never above the key.

    ``key_limit`` is the most urgent class the key may use; a more urgent one is lowered to it.

    Raises:
        UnknownClass: ``asked`` is not a class.
    """
    if asked is not None:
        klass = parse_class(asked)
    elif key_default is not None:
        klass = key_default
    else:
        klass = route_default
    return klass if key_limit is None else max(klass, key_limit)
