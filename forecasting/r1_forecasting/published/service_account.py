"""The one question that the forecaster has for the API server: whom an aggregated API may believe."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from r1_common.http_json import read_json
from r1_common.listen import host_port
from r1_forecasting.published.front_proxy import CONFIG_MAP, FrontProxy, parse_front_proxy

MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class FrontProxyUnavailable(Exception):
    """The front proxy's trust cannot be read now; the message says why."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Where the API server is, and a folder with ``token`` and ``ca.crt``, as pods have it."""

    server: str
    folder: Path = MOUNTED

    @classmethod
    def of_pod(cls, folder: Path, environment: Mapping[str, str] | None = None) -> ServiceAccount:
        """What Kubernetes tells each pod. Raises ``Unreadable`` outside one."""
        environment = os.environ if environment is None else environment
        host, port = (environment.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
        if not host or not port:
            raise FrontProxyUnavailable(
                "KUBERNETES_SERVICE_HOST and _PORT are not set: external metrics are served from "
                "a pod, or with both set to the API server's address"
            )
        return cls(f"https://{host_port(host, port)}", folder)

    async def fetch_front_proxy(self) -> FrontProxy:
        """Read the ConfigMap. Raises ``Unreadable``, or ``InvalidFrontProxy`` on its contents."""
        url = f"{self.server}/api/v1/namespaces/kube-system/configmaps/{CONFIG_MAP}"
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            # Read anew each time: the kubelet renews the token about once an hour.
            token = (self.folder / "token").read_text().strip()
            authority = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, headers=headers, ssl=authority) as answer,
            ):
                body = await answer.read()
                kind = answer.headers.get("Content-Type", "")
                if answer.status != 200:
                    said = body[:200].decode(errors="replace")
                    raise FrontProxyUnavailable(
                        f"the API server answered {answer.status} for {CONFIG_MAP}; the service "
                        "account needs the Role extension-apiserver-authentication-reader of "
                        f"kube-system: {said}"
                    )
            found = read_json(answer.status, kind, body)
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise FrontProxyUnavailable(f"{CONFIG_MAP} cannot be read: {said}") from error
        if not isinstance(found, dict):
            raise FrontProxyUnavailable(f"{CONFIG_MAP} cannot be read: it came as {body[:50]!r}")
        return parse_front_proxy(found)
