"""Read of the front proxy's ConfigMap from the API server with the pod's service account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from r1_common.http_json import read_json
from r1_common.kube.access import (
    SERVICE_ACCOUNT,
    NoCluster,
    api_server_url,
    from_service_account,
)
from r1_forecasting.published.front_proxy import CONFIG_MAP, FrontProxy, parse_front_proxy


class FrontProxyUnavailable(Exception):
    """The front proxy's certificate authority cannot be read; the message has the cause."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """URL of the API server, and the folder with ``token`` and ``ca.crt`` as in a pod."""

    server: str
    folder: Path = SERVICE_ACCOUNT

    @classmethod
    def of_pod(cls, folder: Path, environment: Mapping[str, str] | None = None) -> ServiceAccount:
        """Take the URL from the pod's environment; raises `FrontProxyUnavailable` outside a pod."""
        try:
            return cls(api_server_url(environment), folder)
        except NoCluster as error:
            raise FrontProxyUnavailable(
                f"{error}; external metrics are served from a pod, or with"
                " KUBERNETES_SERVICE_HOST and _PORT set to the API server's address"
            ) from None

    async def fetch_front_proxy(self) -> FrontProxy:
        """Read the ConfigMap; raises `FrontProxyUnavailable` or `InvalidFrontProxy`."""
        url = f"{self.server}/api/v1/namespaces/kube-system/configmaps/{CONFIG_MAP}"
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            access = from_service_account(self.server, self.folder)
            headers = {**await access.headers(), "Accept": "application/json"}
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, headers=headers, ssl=access.tls) as response,
            ):
                body = await response.read()
                kind = response.headers.get("Content-Type", "")
                if response.status != 200:
                    detail = body[:200].decode(errors="replace")
                    raise FrontProxyUnavailable(
                        f"the API server answered {response.status} for {CONFIG_MAP}; the service "
                        "account needs the Role extension-apiserver-authentication-reader of "
                        f"kube-system: {detail}"
                    )
            config_map = read_json(response.status, kind, body)
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            cause = str(error) or type(error).__name__
            raise FrontProxyUnavailable(f"{CONFIG_MAP} cannot be read: {cause}") from error
        if not isinstance(config_map, dict):
            raise FrontProxyUnavailable(f"{CONFIG_MAP} is no JSON object: {body[:50]!r}")
        return parse_front_proxy(config_map)
