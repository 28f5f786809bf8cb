"""State of containers that wait or have exited, reduced from the kubelet's statuses.

A healthy pod has none of them, because there may be tens of thousands of pods.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from signal import Signals
from typing import Any

from r1_operator.api.names import CONTAINER
from r1_operator.api.v1 import unix_seconds

_NORMAL_WAITS = ("", "ContainerCreating", "PodInitializing")


class Role(StrEnum):
    """Role of a container in its pod; the values appear in messages."""

    ENGINE = "the engine"
    INIT = "init container"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Ended:
    """Last exit of a container. Times are Unix seconds, None where the kubelet gives none."""

    exit_code: int | None
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def summary(self) -> str:
        """`exit code 137 (SIGKILL)`."""
        code = self.exit_code
        number = self.signal or (code - 128 if code is not None and code > 128 else None)
        name = f" ({_signal_name(number)})" if number else ""
        return f"exit code {code}{name}" if code is not None else f"an unknown exit code{name}"

    @property
    def seconds(self) -> float | None:
        """Seconds that it had run; None where unknown."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


@dataclass(frozen=True, slots=True)
class Container:
    """A container that waits or has exited; `running_since` is set while it runs again."""

    name: str
    role: Role
    ready: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    running: bool = False
    running_since: float | None = None
    ended: Ended | None = None

    @property
    def title(self) -> str:
        """Role and name for messages."""
        return str(self.role) if self.role is Role.ENGINE else f"{self.role} {self.name}"

    def has_run(self, now: float) -> float:
        """Return the seconds since the restart; 0 where it does not run or the time is unknown."""
        return 0.0 if self.running_since is None else max(0.0, now - self.running_since)


def read_containers(pod: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return the containers of a Pod that wait or have exited, in start order."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    native = {
        one.get("name")
        for one in spec.get("initContainers") or ()
        if one.get("restartPolicy") == "Always"
    }
    return tuple(_read_all(status, native))


def _read_all(status: Mapping[str, Any], native: set[Any]) -> Iterator[Container]:
    for one in status.get("initContainerStatuses") or ():
        role = Role.SIDECAR if one.get("name") in native else Role.INIT
        found = _read(one, role)
        if found is not None:
            yield found
    for one in status.get("containerStatuses") or ():
        role = Role.ENGINE if one.get("name") == CONTAINER else Role.SIDECAR
        found = _read(one, role)
        if found is not None:
            yield found


def _read(one: Mapping[str, Any], role: Role) -> Container | None:
    state, last = one.get("state") or {}, one.get("lastState") or {}
    waiting, running = state.get("waiting") or {}, state.get("running")
    ended = state.get("terminated") or last.get("terminated")
    if role is Role.INIT and ended is not None and ended.get("exitCode") == 0:
        ended = None  # completed, or runs again in a new sandbox
    reason = waiting.get("reason") or ""
    if reason in _NORMAL_WAITS and ended is None:
        return None
    return Container(
        name=str(one.get("name") or ""),
        role=role,
        ready=bool(one.get("ready")),
        restarts=one.get("restartCount") or 0,
        waiting_reason="" if reason in _NORMAL_WAITS else reason,
        waiting_message=waiting.get("message") or "",
        running=running is not None,
        running_since=_time((running or {}).get("startedAt")),
        ended=None if ended is None else _read_end(ended),
    )


def _read_end(ended: Mapping[str, Any]) -> Ended:
    return Ended(
        exit_code=ended.get("exitCode"),
        signal=ended.get("signal"),
        reason=ended.get("reason") or "",
        message=ended.get("message") or "",
        started_at=_time(ended.get("startedAt")),
        finished_at=_time(ended.get("finishedAt")),
    )


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _time(text: str | None) -> float | None:
    return unix_seconds(text) if text else None
