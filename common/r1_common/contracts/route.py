"""`route.json`: one resource, written by the operator into a ConfigMap and read by every gateway.

Parsing is the only validation: past this module a route is a frozen, valid value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_common.contracts.priority_classes import (
    CLASSES,
    DEFAULT_POLICIES,
    ClassPolicy,
    PriorityClass,
    UnknownClass,
    parse_class,
)
from r1_common.untrusted_json import convert_errors

LONGEST_SECONDS = 1e9
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class InvalidRoute(ValueError):
    """A route that cannot be used; the message names the field and what it must be."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds on a request that has a seat; a response without a stream may take minutes.

    ``stream_idle_seconds`` is the longest pause within a response, ``total_seconds`` the time from
    the first seat to the last byte.
    """

    connect_seconds: float = 3.0
    response_head_seconds: float = 1200.0
    stream_idle_seconds: float = 300.0
    total_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Names, classes and seats of one resource."""

    namespace: str
    name: str
    models: tuple[str, ...]
    seats_per_replica: int
    default_class: PriorityClass = PriorityClass.Q2
    policies: tuple[ClassPolicy, ...] = DEFAULT_POLICIES
    may_wake: bool = False
    timeouts: Timeouts = Timeouts()

    @property
    def key(self) -> str:
        """``namespace/name``, the key in signals and the model name that always works."""
        return f"{self.namespace}/{self.name}"


def parse_route(document: object) -> RouteSpec:
    """Read one ``route.json``; unknown fields are ignored, for an operator of a later release.

    Raises:
        InvalidRoute: a field is missing or wrong.
    """
    if not isinstance(document, dict):
        raise InvalidRoute("route.json must be a JSON object")
    namespace = _name(document, "namespace")
    name = _name(document, "name")
    models = document.get("models", [name])
    if not isinstance(models, list) or not all(map(_is_model_name, models)):
        raise InvalidRoute("models must be a list of non-empty strings")
    may_wake = document.get("mayWake", False)
    if not isinstance(may_wake, bool):
        raise InvalidRoute("mayWake must be true or false")
    try:
        with convert_errors(UnknownClass, "a name of a class"):
            default_class = parse_class(str(document.get("defaultClass", "Q2")))
    except UnknownClass as error:
        raise InvalidRoute(f"defaultClass: {error}") from None
    return RouteSpec(
        namespace=namespace,
        name=name,
        models=tuple(dict.fromkeys([name, *models])),
        seats_per_replica=_whole(document, "seatsPerReplica", "", 1, 1_000_000),
        default_class=default_class,
        policies=_policies(document.get("classes", {})),
        may_wake=may_wake,
        timeouts=_timeouts(document.get("timeouts") or {}),
    )


def to_document(spec: RouteSpec) -> dict[str, Any]:
    """The content of ``route.json``, every field of every class included."""
    document: dict[str, Any] = {
        "namespace": spec.namespace,
        "name": spec.name,
        "models": list(spec.models),
        "defaultClass": spec.default_class.name,
        "classes": {klass.name: _class_document(spec.policies[klass]) for klass in CLASSES},
        "seatsPerReplica": spec.seats_per_replica,
        "mayWake": spec.may_wake,
    }
    if spec.timeouts != Timeouts():
        document["timeouts"] = {
            "connectSeconds": spec.timeouts.connect_seconds,
            "responseHeadSeconds": spec.timeouts.response_head_seconds,
            "streamIdleSeconds": spec.timeouts.stream_idle_seconds,
            "totalSeconds": spec.timeouts.total_seconds,
        }
    return document


def _class_document(policy: ClassPolicy) -> dict[str, Any]:
    document: dict[str, Any] = {
        "maxQueueLength": policy.max_queue_length,
        "maxQueueSeconds": _plain(policy.max_queue_seconds),
        "ageAfterSeconds": _plain(policy.age_after_seconds),
    }
    if policy.time_to_first_token_seconds is not None:
        milliseconds = round(policy.time_to_first_token_seconds * 1000.0, 6)
        document["timeToFirstTokenMilliseconds"] = _plain(milliseconds)
    return document


def _plain(number: float) -> float:
    """30 for 30.0, so that the text is the same for both."""
    return int(number) if float(number).is_integer() else number


def _timeouts(entry: object) -> Timeouts:
    if not isinstance(entry, dict):
        raise InvalidRoute("timeouts must be an object")
    default = Timeouts()
    return Timeouts(
        connect_seconds=_limit(entry, "connectSeconds", default.connect_seconds),
        response_head_seconds=_limit(entry, "responseHeadSeconds", default.response_head_seconds),
        stream_idle_seconds=_limit(entry, "streamIdleSeconds", default.stream_idle_seconds),
        total_seconds=_limit(entry, "totalSeconds", default.total_seconds),
    )


def _limit(entry: Mapping[str, object], field_name: str, default: float) -> float:
    value = _number(entry, field_name, "timeouts.", default)
    if value == 0:
        raise InvalidRoute(f"timeouts.{field_name} must be above 0")
    return value


def _policies(classes: object) -> tuple[ClassPolicy, ...]:
    if not isinstance(classes, dict):
        raise InvalidRoute("classes must be an object with the keys Q1, Q2, Q3")
    unknown = set(classes) - {klass.name for klass in CLASSES}
    if unknown:
        raise InvalidRoute(f"classes: unknown class {min(map(str, unknown))!r}")
    return tuple(_policy(classes.get(klass.name) or {}, klass) for klass in CLASSES)


def _policy(entry: object, klass: PriorityClass) -> ClassPolicy:
    where = f"classes.{klass.name}."
    default = DEFAULT_POLICIES[klass]
    if not isinstance(entry, dict):
        raise InvalidRoute(f"classes.{klass.name} must be an object")
    target = entry.get("timeToFirstTokenMilliseconds")
    return ClassPolicy(
        max_queue_length=_whole(
            entry, "maxQueueLength", where, 0, 1_000_000, default.max_queue_length
        ),
        max_queue_seconds=_number(entry, "maxQueueSeconds", where, default.max_queue_seconds),
        age_after_seconds=_number(entry, "ageAfterSeconds", where, default.age_after_seconds),
        time_to_first_token_seconds=None
        if target is None
        else _number(entry, "timeToFirstTokenMilliseconds", where, 0.0) / 1000.0,
    )


def _name(document: Mapping[str, object], field_name: str) -> str:
    value = document.get(field_name)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRoute(f"{field_name} must be a Kubernetes name")
    return value


def _is_model_name(value: object) -> bool:
    """Text that UTF-8 can write: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(
    document: Mapping[str, object],
    field_name: str,
    where: str,
    low: int,
    high: int,
    default: int | None = None,
) -> int:
    value = document.get(field_name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRoute(f"{where}{field_name} must be a whole number from {low} to {high}")
    return value


def _number(document: Mapping[str, object], field_name: str, where: str, default: float) -> float:
    value = document.get(field_name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRoute(f"{where}{field_name} must be a number")
    if not 0 <= value <= LONGEST_SECONDS:  # rejects NaN and integers beyond the range of a float
        raise InvalidRoute(f"{where}{field_name} must be finite and not negative")
    return float(value)
