"""Children that the API server rejected, with its message and the remedy.

The remedy depends on the message, because the status code is ambiguous: an exceeded quota is 403 like a
missing right, and an unknown field is 500.
"""

import re
from typing import Final

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem, quote_start
from r1_operator.plan.snapshot import Observed, WriteError

_REMEDIES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"exceeded quota",
        "Raise the ResourceQuota of the namespace, or lower the requests.",
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
        "Delete this object: the operator creates it again.",
    ),
    (
        r"[Rr]equest entity too large|request is too large|[Tt]oo long",
        "Shorten spec.template.",
    ),
)
_CORRECT: Final = "Correct the spec (most often spec.template or spec.resources)."
_WAIT: Final = "The operator retries automatically."


def failed_children(observed: Observed) -> Problem | None:
    """Return the first child that could not be applied, with the names of the others."""
    if not observed.write_errors:
        return None
    first, *others = sorted(observed.write_errors, key=lambda one: one.temporary)
    message = f"{_opening(first)} {quote_start(first.message)} {_remedy(first)}"
    if others:
        names = ", ".join(f"{one.kind} {one.name}" for one in others)
        message += f" Also not applied: {names}."
    reason = (
        ConditionReason.CHILD_NOT_APPLIED if first.temporary else ConditionReason.CHILD_REJECTED
    )
    return Problem(reason, message)


def _opening(error: WriteError) -> str:
    child = f"{error.kind} {error.name}"
    if error.temporary:
        return f"{child} could not be applied:"
    return f"The API server rejected {child}:"


def _remedy(error: WriteError) -> str:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, error.message):
            return remedy
    return _WAIT if error.temporary else _CORRECT
