"""The typed absence of a forecast: a reason and a message, never a zero and never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from r1_common.contracts.unavailable import Unavailable


class UnavailableReason(StrEnum):
    """Why there is no forecast (`reason` of a response whose `state` is `Unavailable`)."""

    TRAINING = "Training"
    TOO_LITTLE_HISTORY = "TooLittleHistory"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    NO_DATA = "NoData"
    PARTIAL_DATA = "PartialData"
    """Prometheus reported that part of the data is missing from its response."""
    FAILED = "Failed"
    UNREACHABLE = "Unreachable"
    """The shard that owns the series does not respond. The operator uses the same reason for a
    forecaster that does not respond and continues with the last forecast while it is valid."""


@dataclass(frozen=True, slots=True)
class ForecastUnavailable(Unavailable):
    """A missing forecast, with one of the forecaster's reasons."""

    reason: UnavailableReason
