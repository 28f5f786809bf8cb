"""Union fields of a PodSpec, of which only one may be set, by the name of their parent.

From the API's own types (k8s.io/api/core/v1): where a handler or a source is a member of a union,
a patch that sets one member replaces the others, as a strategic merge with `retainKeys` does.
Volumes and env items are unions too; they are replaced whole (`template.py`).
"""

from collections.abc import Mapping
from typing import Any, Final

PROBE: Final = ("exec", "httpGet", "tcpSocket", "grpc")
LIFECYCLE: Final = ("exec", "httpGet", "tcpSocket", "sleep")

MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "startupProbe": PROBE,
    "preStop": LIFECYCLE,
    "postStart": LIFECYCLE,
}

DISCRIMINATED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "seccompProfile": ("type", ("localhostProfile",)),
    "appArmorProfile": ("type", ("localhostProfile",)),
}
"""The discriminator, and the fields that belong to one choice only."""


def without_replaced(holder: str, base: Mapping[str, Any], over: Mapping[str, Any]) -> Any:
    """Return `base` without the members that `over` replaces; `holder`: the name of the field."""
    members = MEMBERS.get(holder, ())
    if any(over.get(member) is not None for member in members):
        return {k: v for k, v in base.items() if k not in members or over.get(k) is not None}
    picks, dependent = DISCRIMINATED.get(holder, ("", ()))
    if picks and over.get(picks) not in (None, base.get(picks)):
        return {k: v for k, v in base.items() if k not in dependent}
    return base
