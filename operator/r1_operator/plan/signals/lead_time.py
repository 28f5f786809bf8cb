"""The lead time: how long before a replica is needed it has to be asked for."""

from dataclasses import dataclass

LONGEST_DRAIN_SECONDS = 300.0
"""A queue that drains within the lead time needs no further replica, as it would come too late. That
holds for a lead time of at most this: a longer one must not turn a standing queue into no action."""


@dataclass(frozen=True, slots=True)
class LeadTime:
    """How long a replica takes to serve, by `samples` measured start-ups (0: an assumed one).

    `seconds` is a high quantile of the start-up, from the node to the first Ready, plus the time to
    the next decision. `node_wait_seconds` is the median time that pods waited for a node before it:
    apart, since it depends on the cluster and not on the replica.
    """

    seconds: float
    samples: int
    node_wait_seconds: float = 0.0

    @property
    def from_request_seconds(self) -> float:
        """Seconds from the request for a replica until it serves: what a forecast has to cover."""
        return self.seconds + self.node_wait_seconds


def drain_horizon(lead_seconds: float) -> float:
    """Return within how many seconds a queue may drain by itself for a replica to come too late."""
    return min(lead_seconds, LONGEST_DRAIN_SECONDS)
