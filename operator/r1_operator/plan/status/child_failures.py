"""Children that the API server did not take: its words, and what to do about them.

The remedy follows the message and not the status code, which says little: a quota is 403 as a
missing right is, and a field that does not exist is 500.
"""

import re
from typing import Final

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem, quote_start
from r1_operator.plan.snapshot import Observed, WriteRefusal

_REMEDIES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"exceeded quota",
        "Raise the ResourceQuota of the namespace, or ask for less.",
    ),
    (
        r"failed calling webhook",
        "Check that the Service of this webhook answers, or remove the webhook configuration.",
    ),
    (
        r"denied (the )?request",
        "Change the spec as this policy requires, or ask the owner of the policy.",
    ),
    (
        r"being terminated",
        "The namespace is being deleted: create the R1Inference in another one.",
    ),
    (
        r"User \"[^\"]*\" cannot ",
        "Grant the operator's ServiceAccount this right: the chart's ClusterRole has it.",
    ),
    (
        r"field is immutable",
        "Delete this object: the operator makes it anew.",
    ),
    (
        r"[Rr]equest entity too large|request is too large|[Tt]oo long",
        "Shorten spec.template.",
    ),
)
_CORRECT: Final = "Correct the spec (most often spec.template or spec.resources)."
_WAIT: Final = "The operator tries again by itself."


def failed_children(observed: Observed) -> Problem | None:
    """The first child that the API server did not take, and the names of the others."""
    if not observed.refusals:
        return None
    first, *others = sorted(observed.refusals, key=lambda one: one.temporary)
    message = f"{_opening(first)} {quote_start(first.message)} {_remedy(first)}"
    if others:
        names = ", ".join(f"{one.kind} {one.name}" for one in others)
        message += f" Not applied either: {names}."
    reason = (
        ConditionReason.CHILD_NOT_APPLIED if first.temporary else ConditionReason.CHILD_REJECTED
    )
    return Problem(reason, message)


def _opening(refusal: WriteRefusal) -> str:
    child = f"{refusal.kind} {refusal.name}"
    if refusal.temporary:
        return f"{child} could not be applied:"
    return f"The API server refused {child}:"


def _remedy(refusal: WriteRefusal) -> str:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, refusal.message):
            return remedy
    return _WAIT if refusal.temporary else _CORRECT
