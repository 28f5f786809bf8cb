"""Priority classes and what each promises.

Three classes, as in the signals and in ``route.json``: Q1 is served before Q2, Q2 before Q3.  The
integer value is the rank, so ``max`` of two classes is the less urgent one and an array can be
indexed by a class.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PriorityClass(enum.IntEnum):
    """Rank of a request; the smaller, the more urgent."""

    Q1 = 0
    Q2 = 1
    Q3 = 2


CLASSES = tuple(PriorityClass)
CLASS_NAMES = tuple(klass.name for klass in CLASSES)
BY_NAME = {klass.name: klass for klass in CLASSES}


class UnknownClass(ValueError):
    """A class name that is none of Q1, Q2, Q3; the message names the allowed ones."""


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Bounds and promises of one class on one route.

    ``max_queue_length`` requests may wait, each at most ``max_queue_seconds``; a head of queue that
    has waited ``age_after_seconds`` may pass in front of more urgent classes now and then.
    ``time_to_first_token_seconds`` is the promise that ``slo_missed`` counts against, if any.
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
