"""What keeps a resource from serving as asked: a stable reason and what to do about it."""

from dataclasses import dataclass
from typing import Final

from r1_operator.api.names import ConditionReason


@dataclass(frozen=True, slots=True)
class Problem:
    """Becomes the condition Degraded and the reason of Ready=False."""

    reason: ConditionReason
    message: str


class Unplannable(ValueError):
    """The resource was accepted, yet no children can be made of it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.reason}: {problem.message}")


QUOTED_CHARACTERS: Final = 600


def quote(text: str) -> str:
    """The text in quotes, on one line; its end where it is long, as the end of a log."""
    line = " ".join(text.split()).rstrip(".")
    if len(line) > QUOTED_CHARACTERS:
        line = "..." + line[-QUOTED_CHARACTERS:]
    return f"“{line}”."


def quote_start(text: str) -> str:
    """The same with the start of a long text, where the API server names the field."""
    line = " ".join(text.split()).rstrip(".")
    if len(line) > QUOTED_CHARACTERS:
        line = line[:QUOTED_CHARACTERS] + "..."
    return f"“{line}”."
