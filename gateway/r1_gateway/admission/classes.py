"""Priority classes, their queue limits and SLO targets.

Three classes, as in the signals and in ``route.json``: Q1 is served before Q2, Q2 before Q3.  The
integer value is the rank, so ``max`` of two classes is the less urgent one and an array can be
indexed by a class.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PriorityClass(enum.IntEnum):
    """Rank of a request; a smaller value is more urgent."""

    Q1 = 0
    Q2 = 1
    Q3 = 2


CLASSES = tuple(PriorityClass)
CLASS_NAMES = tuple(klass.name for klass in CLASSES)
BY_NAME = {klass.name: klass for klass in CLASSES}


class UnknownClass(ValueError):
    """A class name other than Q1, Q2 and Q3; the message lists them."""


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Queue limits and SLO target of one class on one route.

    At most ``max_queue_length`` requests are queued, each for at most ``max_queue_seconds``.  A head
    of queue that has waited ``age_after_seconds`` may be started by an override, before more urgent
    classes.  ``time_to_first_token_seconds`` is the SLO target that ``slo_missed`` counts against.
    """

    max_queue_length: int
    max_queue_seconds: float
    age_after_seconds: float
    time_to_first_token_seconds: float | None = None


DEFAULT_POLICIES: tuple[ClassPolicy, ...] = (
    ClassPolicy(max_queue_length=256, max_queue_seconds=30.0, age_after_seconds=5.0),
    ClassPolicy(max_queue_length=512, max_queue_seconds=120.0, age_after_seconds=30.0),
    ClassPolicy(max_queue_length=1024, max_queue_seconds=900.0, age_after_seconds=120.0),
)


def parse_class(name: str) -> PriorityClass:
    """The class of that name, upper or lower case.

    Raises:
        UnknownClass: no such class.
    """
    klass = BY_NAME.get(name.strip().upper())
    if klass is None:
        raise UnknownClass(f"unknown priority class {name[:40]!r}: use one of Q1, Q2, Q3")
    return klass


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
