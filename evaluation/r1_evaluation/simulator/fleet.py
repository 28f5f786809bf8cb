"""Replicas of an elastic pool: start, serve, drain, fail.

A replica is paid from its creation until it is gone, including its drain. Scale-down removes
starting replicas first, as a ReplicaSet does. `Ending` sets which replicas follow, and how long
their requests may run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from r1_evaluation.simulator.engine import EngineSpeed, SimulatedEngine


@dataclass(frozen=True, slots=True)
class Ending:
    """Termination of replicas: idle or youngest first, and the grace period in seconds."""

    idle_first: bool
    grace_seconds: float


DRAINED = Ending(idle_first=True, grace_seconds=120.0)
"""What the operator does: deletion costs by load, `rollout.drainSeconds` of its default."""
KUBERNETES = Ending(idle_first=False, grace_seconds=30.0)
"""Without it: the ReplicaSet's own order, the default `terminationGracePeriodSeconds`."""


@dataclass(slots=True, eq=False)
class Replica:
    """One replica; `serves` from the end of its start-up until it drains."""

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

    `start_seconds` returns each start-up time, `mean_life_seconds` is the mean time to a
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
        """Create a replica; `ready`: it serves at once."""
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
        """Replicas that are not terminating."""
        return [one for one in self.replicas.values() if one.drained_since is None]

    @property
    def ready(self) -> int:
        """Number of replicas that accept requests."""
        return sum(one.serves for one in self.replicas.values())

    def leave(self, surplus: int, load: Callable[[Replica], int]) -> Iterator[Replica]:
        """Yield the replicas to remove when the count falls by `surplus`."""

        def order(one: Replica) -> tuple[bool, int, float]:
            return one.serves, load(one) if self.ending.idle_first else 0, -one.ready_at

        yield from sorted(self.kept, key=order)[:surplus]

    def remove(self, replica: Replica, now: float) -> None:
        """Remove a replica and close its bill."""
        replica.serves, replica.gone = False, True
        del self.replicas[replica.name]
        self.paid_seconds += now - replica.asked_at

    def close(self, now: float) -> float:
        """Return the replica-seconds paid until `now` by all replicas."""
        return self.paid_seconds + sum(now - one.asked_at for one in self.replicas.values())
