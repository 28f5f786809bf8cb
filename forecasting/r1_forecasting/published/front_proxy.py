"""Authentication of the API server's front proxy at the aggregated API; pure.

The ConfigMap ``kube-system/extension-apiserver-authentication`` holds the certificate authority and
names of the front proxy's client certificate, and the header with the user. The API server
authenticates and authorizes the user before it forwards a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from r1_common.untrusted_json import InvalidJson, convert_errors, parse_json
from r1_forecasting.published.external_metrics import MetricRequestRefused

CONFIG_MAP = "extension-apiserver-authentication"
PREFIX = "requestheader"


class InvalidFrontProxy(ValueError):
    """The ConfigMap lacks a key; the message names the flag of kube-apiserver that sets it."""


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """``authorities`` is PEM text; no ``names`` means any that those authorities signed."""

    authorities: str
    names: frozenset[str]
    username_headers: tuple[str, ...]

    def check(self, common_name: str | None, headers: Mapping[str, str]) -> None:
        """Raise `MetricRequestRefused` unless the request comes from the front proxy for a user."""
        if common_name is None:
            raise MetricRequestRefused(
                HTTPStatus.UNAUTHORIZED, "the request has no client certificate"
            )
        if self.names and common_name not in self.names:
            raise MetricRequestRefused(
                HTTPStatus.UNAUTHORIZED,
                f"client certificate {common_name!r} is not the API server's front proxy",
            )
        if not any(headers.get(header) for header in self.username_headers):
            raise MetricRequestRefused(
                HTTPStatus.UNAUTHORIZED, "the front proxy's request has no user header"
            )


def parse_front_proxy(config_map: Mapping[str, Any]) -> FrontProxy:
    """Parse the ConfigMap's JSON; raises `InvalidFrontProxy`."""
    with convert_errors(InvalidFrontProxy, CONFIG_MAP):
        return _parse_data(config_map.get("data") or {})


def _parse_data(data: Mapping[str, str]) -> FrontProxy:
    authorities = data.get(f"{PREFIX}-client-ca-file")
    if not authorities:
        raise InvalidFrontProxy(
            f"{CONFIG_MAP} has no {PREFIX}-client-ca-file: kube-apiserver needs "
            f"--{PREFIX}-client-ca-file to serve aggregated APIs"
        )
    headers = _list(data, f"{PREFIX}-username-headers")
    if not headers:
        raise InvalidFrontProxy(
            f"{CONFIG_MAP} has no {PREFIX}-username-headers: set --{PREFIX}-username-headers"
        )
    return FrontProxy(authorities, frozenset(_list(data, f"{PREFIX}-allowed-names")), headers)


def _list(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    try:
        found = parse_json(data.get(key) or "[]")
    except InvalidJson as error:
        raise InvalidFrontProxy(f"{key} is not a JSON list: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidFrontProxy(f"{key} needs to be a JSON list of strings")
    return tuple(found)


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Common name of a verified peer certificate in the form of Python's ``ssl``."""
    for attributes in (certificate or {}).get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                return str(value)
    return None
