"""Samples of the running system, once a second: signals, decisions, outcomes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from r1_demo.load.load_generator import RequestOutcome, read_outcomes

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class ResourceSample:
    """One resource in a sample; None: not readable.

    `band` holds quantiles of the forecast demand over the lead time (requests/s), also when the
    forecast gate is closed.
    """

    desired: int | None = None
    ready: int | None = None
    queued: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    oldest_wait: float = 0.0
    band: Mapping[str, float] = field(default_factory=dict)
    acting: bool = False
    forecast: str = ""
    reason: str = ""
    message: str = ""
    reactive: int | None = None


@dataclass(frozen=True, slots=True)
class RunSample:
    """All resources at `at` seconds of the run."""

    at: float
    resources: Mapping[str, ResourceSample]

    def to_json(self) -> dict[str, Any]:
        """Return the sample as JSON values."""
        resources = {name: asdict(resource) for name, resource in self.resources.items()}
        return {"at": round(self.at, 2), "resources": resources}


def get_json(url: str, timeout: float = 2.0) -> Any:
    """Return the JSON at a URL, None without a valid response."""
    try:
        with _OPENER.open(url, timeout=timeout) as response:
            return json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return None


@dataclass(slots=True)
class Observer:
    """Reads the gateway's signals and the operator's decisions about some resources."""

    signals_url: str
    decisions_url: str
    namespace: str
    names: Sequence[str]
    _decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def observe(self, at: float, *, decisions: bool = True) -> RunSample:
        """Return a sample; an unreadable decision repeats the last one."""
        signals = get_json(self.signals_url) or {}
        resources = {}
        for name in self.names:
            key = f"{self.namespace}/{name}"
            if decisions:
                listing = get_json(f"{self.decisions_url}/{key}")
                if listing and listing.get("decisions"):
                    self._decisions[name] = listing["decisions"][-1]
            resources[name] = resource_sample(
                signals.get("routes", {}).get(key), self._decisions.get(name)
            )
        return RunSample(at, resources)


def resource_sample(
    route: Mapping[str, Any] | None, decision: Mapping[str, Any] | None
) -> ResourceSample:
    """Return the sample of a resource from its route's signals and its newest decision."""
    figures: dict[str, Any] = {}
    if route is not None:
        figures |= {
            "ready": route["readyEndpoints"],
            "queued": {name: int(count) for name, count in route["queued"].items()},
            "in_flight": int(sum(route["inFlight"].values())),
            "oldest_wait": max(route["oldestWaitSeconds"].values(), default=0.0),
        }
    if decision is not None:
        summary = decision.get("forecast") or {}
        forecast = (decision.get("inputs") or {}).get("forecast") or {}
        figures |= {
            "desired": decision["replicas"],
            "band": forecast.get("peakOverLead") or {},
            "acting": bool(summary.get("acting")),
            "forecast": summary.get("message", ""),
            "reason": decision["reason"],
            "message": decision["message"],
            "reactive": decision.get("hpaReplicas"),
        }
    return ResourceSample(**figures)


@dataclass(slots=True)
class OutcomeFile:
    """The file that the load generator appends outcomes to."""

    path: Path
    outcomes: list[RequestOutcome] = field(default_factory=list)
    _offset: int = 0

    def poll(self) -> None:
        """Read the outcomes written since the last poll."""
        if self.path.exists():
            fresh, self._offset = read_outcomes(self.path, self._offset)
            self.outcomes += fresh

    def recent(self, since: float) -> list[RequestOutcome]:
        """Return the outcomes of requests that were due after `since` seconds of the run."""
        return [outcome for outcome in self.outcomes if outcome.at >= since]
