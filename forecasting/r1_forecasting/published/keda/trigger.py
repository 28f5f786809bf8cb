"""Parser of a KEDA trigger's metadata.

All values are text. Keys of KEDA itself (the scaler's address, TLS) are ignored. Any other unknown
key is refused, because a mistyped key would leave a default in force without notice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from r1_common.contracts.forecast_request import InvalidForecastRequest
from r1_forecasting.published.publication import (
    FORECAST_FIELDS,
    InferenceName,
    Publication,
    parse_publication,
)

KEDA_KEYS = frozenset(
    {
        "scalerAddress",
        "enableTLS",
        "unsafeSsl",
        "caCert",
        "tlsCertFile",
        "tlsClientCert",
        "tlsClientKey",
    }
)
OWN = frozenset({"threshold", "activationThreshold", "inference", "class"})
KNOWN = FORECAST_FIELDS | OWN
FROM_ENVIRONMENT = "FromEnv"
"""Suffix of a key whose value KEDA takes from the workload's environment."""
TEXTS = frozenset({"query", "activation"})


@dataclass(frozen=True, slots=True)
class KedaTrigger:
    """One trigger: its forecast, and ``target`` per replica in the query's unit."""

    wanted: Publication | InferenceName
    target: float
    active_above: float

    def active(self, value: float) -> bool:
        """Return whether the workload needs at least one replica."""
        return value > self.active_above


def parse_trigger(namespace: str, name: str, metadata: Mapping[str, str]) -> KedaTrigger:
    """Parse the trigger of the ScaledObject ``namespace``/``name``.

    Raises ``InvalidRequest``, whose message begins with the field and says what it needs.
    """
    given: dict[str, str] = {}
    for key, value in metadata.items():
        field = key.removesuffix(FROM_ENVIRONMENT)
        if field in given:
            raise InvalidForecastRequest(
                f"{field}: is set twice, once with {FROM_ENVIRONMENT}; remove one"
            )
        if field not in KEDA_KEYS:
            given[field] = value
    unknown = sorted(given.keys() - KNOWN)
    if unknown:
        raise InvalidForecastRequest(
            f"{unknown[0]}: unknown field; known are {', '.join(sorted(KNOWN))}"
        )
    if "threshold" not in given:
        raise InvalidForecastRequest(
            "threshold: is missing; set the load of one replica, such as '100'"
        )
    target = _number("threshold", given["threshold"])
    if target <= 0:
        raise InvalidForecastRequest(f"threshold: {target:g} needs to be more than 0")
    active_above = _number("activationThreshold", given.get("activationThreshold", "0"))
    return KedaTrigger(_wanted(namespace, name, given), target, active_above)


def _wanted(namespace: str, name: str, given: Mapping[str, str]) -> Publication | InferenceName:
    fields = {key: value for key, value in given.items() if key in FORECAST_FIELDS}
    inference = given.get("inference")
    if inference is not None:
        if fields:
            raise InvalidForecastRequest(
                f"{min(fields)}: conflicts with inference, whose R1Inference sets it; remove one"
            )
        if not inference.strip():
            raise InvalidForecastRequest("inference: needs to be the name of an R1Inference")
        priority_class = given.get("class")
        if priority_class is not None and not priority_class.strip():
            raise InvalidForecastRequest("class: needs to be a class such as Q1")
        return InferenceName(
            namespace, inference.strip(), priority_class and priority_class.strip()
        )
    if "class" in given:
        raise InvalidForecastRequest(
            "class: needs inference as well; select a class in the query instead"
        )
    if "query" not in fields:
        raise InvalidForecastRequest("query: is missing; set a PromQL query, or inference: NAME")
    body: dict[str, object] = {key: _read(key, value) for key, value in fields.items()}
    # Several triggers of one ScaledObject are several series, each with its own evaluation.
    identity = json.dumps({**fields, "activation": ""}, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    series_name = f"keda/{namespace}/{name}/{digest}"
    return parse_publication(body | {"namespace": namespace, "name": name}, series_name)


def _read(field: str, text: str) -> object:
    if field in TEXTS:
        return text
    if field == "weekly":
        words = {"true": True, "false": False}
        if text.lower() not in words:
            raise InvalidForecastRequest(f"weekly: {text!r} needs to be 'true' or 'false'")
        return words[text.lower()]
    return _number(field, text)


def _number(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidForecastRequest(
            f"{field}: {text!r} needs to be a number such as '60'"
        ) from None
    if not math.isfinite(value):
        raise InvalidForecastRequest(f"{field}: {text!r} needs to be a finite number")
    return value
