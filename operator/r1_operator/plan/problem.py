"""Problems of a resource: a stable reason and a message with the remedy."""

from dataclasses import dataclass
from typing import Final

from r1_operator.api.names import ConditionReason


@dataclass(frozen=True, slots=True)
class Problem:
    """Reason and message of the conditions Degraded and Ready=False."""

    reason: ConditionReason
    message: str


class Unplannable(ValueError):
    """The resource was accepted, but its children cannot be built."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.reason}: {problem.message}")


QUOTED_CHARACTERS: Final = 600


def quote(text: str) -> str:
    """Quote a text on one line; of a long text, such as a log, only the end."""
    line = " ".join(text.split()).rstrip(".")
    if len(line) > QUOTED_CHARACTERS:
        line = "..." + line[-QUOTED_CHARACTERS:]
    return f"“{line}”."


def quote_start(text: str) -> str:
    """Quote a text on one line; of a long text only the start, where the API server names the field."""
    line = " ".join(text.split()).rstrip(".")
    if len(line) > QUOTED_CHARACTERS:
        line = line[:QUOTED_CHARACTERS] + "..."
    return f"“{line}”."
