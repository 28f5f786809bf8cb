"""What a decision came to, once time has shown it: beside a plain autoscaler on the same demand.

A decision stands until the next one that moves the count. Over that time the counts asked for are
what is paid, and what serves is the lowest count of the last lead: a replica serves once it has
been asked for through a whole start-up. The same is done to the counts that the imagined
HorizontalPodAutoscaler of `counterfactual.py` asked for, so that both start their replicas alike.
A service is overloaded while its load is worth more replicas, each taken as full, than serve.

Pure, over the JSON of the decision book: it may be asked about old decisions at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from r1_operator.plan.scaling.decision import Json

ASSUMED_LEAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Score:
    """Over `seconds`: replica-seconds less than the plain autoscaler's (negative: more), and for
    how long either was overloaded (None while the load was not known)."""

    seconds: float
    saved_replica_seconds: float
    overload_seconds: float | None
    reactive_overload_seconds: float | None

    @property
    def message(self) -> str:
        """One clause for people."""
        saved = self.saved_replica_seconds
        what = "as many" if saved == 0 else f"{abs(saved):.0f} {'fewer' if saved > 0 else 'more'}"
        text = f"{what} replica-seconds than a plain autoscaler in {self.seconds:.0f} s"
        if self.overload_seconds is None or self.reactive_overload_seconds is None:
            return f"{text}; the load was not known"
        ours, its = self.overload_seconds, self.reactive_overload_seconds
        return f"{text}; overloaded for {ours:.0f} s, it for {its:.0f} s"

    def to_json(self) -> dict[str, Json]:
        """Return the figures and the clause."""
        return {
            "seconds": self.seconds,
            "savedReplicaSeconds": self.saved_replica_seconds,
            "overloadSeconds": self.overload_seconds,
            "reactiveOverloadSeconds": self.reactive_overload_seconds,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class _Moment:
    """From `at` on, until the next: counts asked for and serving, ours and the imagined ones."""

    at: float
    count: int
    serving: int
    imagined: int | None
    imagined_serving: int | None
    worth: float | None


def score(decisions: Sequence[Mapping[str, Any]]) -> list[Score | None]:
    """Return the score of each decision (oldest first, as the book has them).

    None for one that kept the count, which belongs to the one before; for one that has not stood
    for its lead yet; and while the imagined autoscaler had seen no demand.
    """
    moments = _moments(decisions)
    moves = [
        index
        for index, decision in enumerate(decisions)
        if decision["replicas"] != decision["current"]
    ]
    scores: list[Score | None] = [None] * len(decisions)
    for index, following in pairwise([*moves, len(decisions) - 1]):
        lasted = moments[following].at - moments[index].at
        last_move = index == moves[-1]
        if lasted > 0 and not (last_move and lasted < _lead(decisions[index])):
            scores[index] = _over(moments[index : following + 1])
    return scores


def _moments(decisions: Sequence[Mapping[str, Any]]) -> list[_Moment]:
    found: list[_Moment] = []
    for decision in decisions:
        at, count, imagined = decision["at"], decision["replicas"], decision.get("reactive")
        since = at - _lead(decision)
        # The count in force when the lead began, and every one since.
        within = [one for one, after in pairwise(found) if after.at > since]
        within += found[-1:]
        serving = min([decision["current"], count, *(one.count for one in within)])
        if imagined is None:
            imagined_serving = None
        else:
            past = [one.imagined for one in within if one.imagined is not None]
            imagined_serving = min([imagined, *past])
        worth = decision["inputs"].get("demandInReplicas")
        found.append(_Moment(at, count, serving, imagined, imagined_serving, worth))
    return found


def _over(moments: Sequence[_Moment]) -> Score | None:
    saved = ours = its = seconds = known = 0.0
    for moment, after in pairwise(moments):
        lasted = after.at - moment.at
        if moment.imagined is None or moment.imagined_serving is None:
            return None
        seconds += lasted
        saved += (moment.imagined - moment.count) * lasted
        if moment.worth is None:
            continue
        known += lasted
        ours += lasted if moment.worth > moment.serving else 0.0
        its += lasted if moment.worth > moment.imagined_serving else 0.0
    if known == 0:
        return Score(seconds, saved, None, None)
    return Score(seconds, saved, ours, its)


def _lead(decision: Mapping[str, Any]) -> float:
    lead = decision["inputs"].get("lead")
    return float(lead["seconds"]) if lead else ASSUMED_LEAD_SECONDS
