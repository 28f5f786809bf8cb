"""What keeps a resource from serving as asked: a stable reason and what to do about it."""

from dataclasses import dataclass

from r1_operator.api.names import Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """Becomes the condition Degraded and the reason of Ready=False."""

    reason: Reason
    message: str


class Unplannable(ValueError):
    """The resource was accepted, yet no children can be made of it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.reason}: {problem.message}")
