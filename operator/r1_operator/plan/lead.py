"""The lead: how long before a replica is needed it has to be asked for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeadTime:
    """The 90 % quantile of `samples` measured start-ups plus the time to the next decision.

    With no sample `seconds` rests on an assumed start-up.
    """

    seconds: float
    samples: int
