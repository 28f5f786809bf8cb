"""Replicas that come and go: they start, serve, drain, and some of them break.

A replica is paid from the moment it is asked for until it is gone, its draining included. When the
count falls, those that do not serve yet go first, as in a ReplicaSet; who goes after them, and how
long what runs there may go on, is the `Ending`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from r1_evaluation.simulator.engine import EngineSpeed, SimulatedEngine


@dataclass(frozen=True, slots=True)
class Ending:
    """How replicas leave: idle ones first or the youngest, and the seconds they have to finish."""

    idle_first: bool
    grace_seconds: float


DRAINED = Ending(idle_first=True, grace_seconds=120.0)
"""What the operator does: deletion costs by load, `rollout.drainSeconds` of its default."""
KUBERNETES = Ending(idle_first=False, grace_seconds=30.0)
"""Without it: the ReplicaSet's own order, the default `terminationGracePeriodSeconds`."""


@dataclass(slots=True, eq=False)
class Replica:
    """One replica; `serves` from its start's end until it drains."""

    name: str
    asked_at: float
    ready_at: float
    fails_at: float
    engine: SimulatedEngine
    serves: bool = False
    drained_since: float | None = None
    gone: bool = False


@dataclass(slots=True)
class Fleet:
    """All replicas of a pool.

    `start_seconds` is asked for each start-up time, `mean_life_seconds` is the mean time to a
    failure (exponential; infinite for replicas that never break).
    """

    speed: EngineSpeed
    ending: Ending
    start_seconds: Callable[[], float]
    mean_life_seconds: float
    rng: random.Random
    replicas: dict[str, Replica] = field(default_factory=dict)
    paid_seconds: float = 0.0
    _born: int = 0

    def start(self, now: float, *, ready: bool = False) -> Replica:
        """Ask for one more; `ready` for those that are there from the beginning."""
        self._born += 1
        life = self.rng.expovariate(1 / self.mean_life_seconds) if self._mortal else math.inf
        ready_at = now if ready else now + self.start_seconds()
        name = f"replica-{self._born}"
        replica = Replica(
            name, now, ready_at, ready_at + life, SimulatedEngine(self.speed), serves=ready
        )
        self.replicas[name] = replica
        return replica

    @property
    def _mortal(self) -> bool:
        return math.isfinite(self.mean_life_seconds)

    @property
    def kept(self) -> list[Replica]:
        """Those that count: all that are not on their way out."""
        return [one for one in self.replicas.values() if one.drained_since is None]

    @property
    def ready(self) -> int:
        """How many take requests."""
        return sum(one.serves for one in self.replicas.values())

    def leave(self, surplus: int, load: Callable[[Replica], int]) -> Iterator[Replica]:
        """Pick who goes when the count falls by `surplus`."""

        def order(one: Replica) -> tuple[bool, int, float]:
            return one.serves, load(one) if self.ending.idle_first else 0, -one.ready_at

        yield from sorted(self.kept, key=order)[:surplus]

    def remove(self, replica: Replica, now: float) -> None:
        """It is gone; its bill is closed."""
        replica.serves, replica.gone = False, True
        del self.replicas[replica.name]
        self.paid_seconds += now - replica.asked_at

    def close(self, now: float) -> float:
        """Return replica-seconds paid until `now` by all that ever were."""
        return self.paid_seconds + sum(now - one.asked_at for one in self.replicas.values())
