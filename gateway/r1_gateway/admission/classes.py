"""Priority class of a request; the classes themselves are ``r1_common.contracts.priority_classes``."""

from __future__ import annotations

from r1_common.contracts.priority_classes import (
    PriorityClass,
    parse_class,
)


def choose_class(
    requested: str | None,
    *,
    route_default: PriorityClass,
    key_default: PriorityClass | None = None,
    key_limit: PriorityClass | None = None,
) -> PriorityClass:
    """Class of a request: the requested one, else its key's, else the route's.

    ``key_limit`` is the most urgent class of the key; a more urgent one is lowered to it.

    Raises:
        UnknownClass: ``requested`` is not a class.
    """
    if requested is not None:
        klass = parse_class(requested)
    elif key_default is not None:
        klass = key_default
    else:
        klass = route_default
    return klass if key_limit is None else max(klass, key_limit)
