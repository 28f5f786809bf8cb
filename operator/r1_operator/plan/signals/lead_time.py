"""Lead time: the time from the request for a replica until it serves."""

from dataclasses import dataclass

LONGEST_DRAIN_SECONDS = 300.0
"""Longest drain time of a queue that needs no further replica. A queue that drains within the lead time needs
none, but a very long lead time must not prevent action on a standing queue."""


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Lead time from `samples` measured start-ups (0: an assumed one).

    `seconds`: a high quantile of the start-up, from scheduling to the first Ready, plus the time to the
    next decision. `node_wait_seconds`: median wait of pods for a node before it. It is separate because
    it depends on the cluster and not on the replica.
    """

    seconds: float
    samples: int
    node_wait_seconds: float = 0.0

    @property
    def from_request_seconds(self) -> float:
        """Seconds from the request for a replica until it serves: the span of a forecast peak."""
        return self.seconds + self.node_wait_seconds


def drain_horizon(lead_seconds: float) -> float:
    """Return the seconds within which a queue may drain by itself before a replica could help."""
    return min(lead_seconds, LONGEST_DRAIN_SECONDS)
