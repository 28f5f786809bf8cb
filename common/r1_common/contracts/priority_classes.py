"""Priority classes Q1 to Q3 and the policy of a class on a route.

Q1 is served before Q2, Q2 before Q3. The integer value is the rank, so ``max`` of two classes is the
less urgent one, and a class indexes an array.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PriorityClass(enum.IntEnum):
    """Rank of a request: the smaller, the more urgent."""

    Q1 = 0
    Q2 = 1
    Q3 = 2


CLASSES = tuple(PriorityClass)
CLASS_NAMES = tuple(klass.name for klass in CLASSES)
BY_NAME = {klass.name: klass for klass in CLASSES}


class UnknownClass(ValueError):
    """A class name other than Q1, Q2 and Q3; the message names the allowed ones."""


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Queue limits and SLO target of one class on one route.

    At most ``max_queue_length`` requests wait, each at most ``max_queue_seconds``. A request at the
    head of its queue for ``age_after_seconds`` may pass more urgent classes now and then.
    ``time_to_first_token_seconds`` is the SLO target behind ``slo_missed``, if there is one.
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
