"""Score of past decisions beside a simulated HorizontalPodAutoscaler on the same demand.

A decision lasts until the next one that changes the count. During that time the requested replicas are
paid for. The serving replicas are the lowest count within the last lead time, because a replica serves
after a whole start-up. The counts of the simulated HorizontalPodAutoscaler (`hpa_simulation.py`) are
treated alike. A service is overloaded while its demand in fully used replicas exceeds those that serve.

Pure, over the JSON of the decision history: old decisions can be scored at any time.
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
    """Score over `seconds`: replica-seconds saved against the HorizontalPodAutoscaler (negative: more),
    and overload of both in seconds (None: the load was unknown)."""

    seconds: float
    saved_replica_seconds: float
    overload_seconds: float | None
    hpa_overload_seconds: float | None

    @property
    def message(self) -> str:
        """The score as one clause."""
        saved = self.saved_replica_seconds
        than = "as" if saved == 0 else "than"
        what = "as many" if saved == 0 else f"{abs(saved):.0f} {'fewer' if saved > 0 else 'more'}"
        text = f"{what} replica-seconds {than} a HorizontalPodAutoscaler in {self.seconds:.0f} s"
        if self.overload_seconds is None or self.hpa_overload_seconds is None:
            return f"{text}; the load was unknown"
        ours, hpa = self.overload_seconds, self.hpa_overload_seconds
        return f"{text}; overloaded for {ours:.0f} s (HorizontalPodAutoscaler: {hpa:.0f} s)"

    def to_json(self) -> dict[str, Json]:
        """Return the figures and the message."""
        return {
            "seconds": self.seconds,
            "savedReplicaSeconds": self.saved_replica_seconds,
            "overloadSeconds": self.overload_seconds,
            "hpaOverloadSeconds": self.hpa_overload_seconds,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class _Moment:
    """Counts from `at` until the next decision: requested and serving, ours and the HPA's."""

    at: float
    count: int
    serving: int
    hpa: int | None
    hpa_serving: int | None
    demand_in_replicas: float | None


def score(decisions: Sequence[Mapping[str, Any]]) -> list[Score | None]:
    """Return the score of each decision, oldest first.

    None for a decision that kept the count (it belongs to the one before), for one younger than its
    lead time, and while the simulated HorizontalPodAutoscaler had no demand.
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
        at, count, hpa = decision["at"], decision["replicas"], decision.get("hpaReplicas")
        since = at - _lead(decision)
        # The count in force when the lead began, and every one since.
        within = [one for one, after in pairwise(found) if after.at > since]
        within += found[-1:]
        serving = min([decision["current"], count, *(one.count for one in within)])
        if hpa is None:
            hpa_serving = None
        else:
            past = [one.hpa for one in within if one.hpa is not None]
            hpa_serving = min([hpa, *past])
        demand_in_replicas = decision["inputs"].get("demandInReplicas")
        found.append(_Moment(at, count, serving, hpa, hpa_serving, demand_in_replicas))
    return found


def _over(moments: Sequence[_Moment]) -> Score | None:
    saved = ours = theirs = seconds = known = 0.0
    for moment, after in pairwise(moments):
        lasted = after.at - moment.at
        if moment.hpa is None or moment.hpa_serving is None:
            return None
        seconds += lasted
        saved += (moment.hpa - moment.count) * lasted
        if moment.demand_in_replicas is None:
            continue
        known += lasted
        ours += lasted if moment.demand_in_replicas > moment.serving else 0.0
        theirs += lasted if moment.demand_in_replicas > moment.hpa_serving else 0.0
    if known == 0:
        return Score(seconds, saved, None, None)
    return Score(seconds, saved, ours, theirs)


def _lead(decision: Mapping[str, Any]) -> float:
    lead = decision["inputs"].get("leadTime")
    return float(lead["seconds"]) if lead else ASSUMED_LEAD_SECONDS
