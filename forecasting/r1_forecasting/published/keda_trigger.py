"""A KEDA trigger's metadata, read into what it asks for.

All values are text, as KEDA hands them on. What belongs to KEDA itself (the scaler's address,
TLS) is passed over; any other unknown key is refused, because a mistyped one would silently
leave a default in force.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from r1_forecasting.published.publication import (
    FORECAST_FIELDS,
    InferenceName,
    Publication,
    parse_publication,
)
from r1_forecasting.request import InvalidRequest

KEDAS_OWN = frozenset(
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
"""Ending of a key whose value KEDA has taken from the workload's environment."""
TEXTS = frozenset({"query", "activation"})


@dataclass(frozen=True, slots=True)
class KedaTrigger:
    """What one trigger scales on: ``target`` is the share of one replica, in the query's unit."""

    wanted: Publication | InferenceName
    target: float
    active_above: float

    def active(self, value: float) -> bool:
        """Whether the workload has to have a replica at all."""
        return value > self.active_above


def parse_trigger(namespace: str, name: str, metadata: Mapping[str, str]) -> KedaTrigger:
    """Parse the trigger of the ScaledObject ``namespace``/``name``.

    Raises ``InvalidRequest``, whose message begins with the field and says what it needs.
    """
    given: dict[str, str] = {}
    for key, value in metadata.items():
        field = key.removesuffix(FROM_ENVIRONMENT)
        if field in given:
            raise InvalidRequest(f"{field}: is given twice, once with {FROM_ENVIRONMENT}; drop one")
        if field not in KEDAS_OWN:
            given[field] = value
    unknown = sorted(given.keys() - KNOWN)
    if unknown:
        raise InvalidRequest(f"{unknown[0]}: unknown field; known are {', '.join(sorted(KNOWN))}")
    if "threshold" not in given:
        raise InvalidRequest("threshold: is missing; give what one replica carries, such as '100'")
    target = _number("threshold", given["threshold"])
    if target <= 0:
        raise InvalidRequest(f"threshold: {target:g} needs to be more than 0")
    active_above = _number("activationThreshold", given.get("activationThreshold", "0"))
    return KedaTrigger(_wanted(namespace, name, given), target, active_above)


def _wanted(namespace: str, name: str, given: Mapping[str, str]) -> Publication | InferenceName:
    asked = {key: value for key, value in given.items() if key in FORECAST_FIELDS}
    inference = given.get("inference")
    if inference is not None:
        if asked:
            raise InvalidRequest(
                f"{min(asked)}: cannot stand beside inference, whose R1Inference says it; drop one"
            )
        if not inference.strip():
            raise InvalidRequest("inference: needs to be the name of an R1Inference")
        of_class = given.get("class")
        if of_class is not None and not of_class.strip():
            raise InvalidRequest("class: needs to be a class such as Q1")
        return InferenceName(namespace, inference.strip(), of_class and of_class.strip())
    if "class" in given:
        raise InvalidRequest("class: needs inference beside it; a query says itself what it counts")
    if "query" not in asked:
        raise InvalidRequest("query: is missing; give a PromQL query, or inference: NAME")
    body: dict[str, object] = {key: _read(key, value) for key, value in asked.items()}
    # Several triggers of one ScaledObject are several questions, each with its own judgement.
    question = json.dumps({**asked, "activation": ""}, sort_keys=True)
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    series_name = f"keda/{namespace}/{name}/{digest}"
    return parse_publication(body | {"namespace": namespace, "name": name}, series_name)


def _read(field: str, text: str) -> object:
    if field in TEXTS:
        return text
    if field == "weekly":
        words = {"true": True, "false": False}
        if text.lower() not in words:
            raise InvalidRequest(f"weekly: {text!r} needs to be 'true' or 'false'")
        return words[text.lower()]
    return _number(field, text)


def _number(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidRequest(f"{field}: {text!r} needs to be a number such as '60'") from None
    if not math.isfinite(value):
        raise InvalidRequest(f"{field}: {text!r} needs to be a finite number")
    return value
