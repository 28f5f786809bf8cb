"""Access to the API server: credentials of a pod or of a KUBECONFIG.

List and watch on two kinds of object need no generated client: plain aiohttp takes a quarter of the
client library's memory and start time.  The library is imported only for a kubeconfig, whose many
ways to authenticate it implements.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from r1_common.listen import host_port

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoCluster(Exception):
    """Neither a service account nor a kubeconfig can be used; the message names both."""


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """URL and credentials of the API server; ``headers`` is called for each request."""

    url: str
    tls: ssl.SSLContext | bool
    headers: Callable[[], Awaitable[dict[str, str]]]


async def find_access(environment: Mapping[str, str] | None = None) -> KubeAccess:
    """Access by the pod's service account, or by KUBECONFIG if set.

    Raises:
        NoCluster: nothing usable was found.
    """
    env = os.environ if environment is None else environment
    if not env.get("KUBECONFIG") and env.get("KUBERNETES_SERVICE_HOST"):
        return _from_service_account(env)
    return await _from_kubeconfig(env.get("KUBECONFIG"))


def _from_service_account(env: Mapping[str, str]) -> KubeAccess:
    token = SERVICE_ACCOUNT / "token"
    authority = SERVICE_ACCOUNT / "ca.crt"
    if not token.is_file() or not authority.is_file():
        raise NoCluster(
            f"{SERVICE_ACCOUNT} has no token: set automountServiceAccountToken, or use --config"
        )
    place = host_port(env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443"))

    async def headers() -> dict[str, str]:
        return {"Authorization": "Bearer " + token.read_text("ascii").strip()}  # it rotates

    return KubeAccess(f"https://{place}", _trusting(str(authority)), headers)


async def _from_kubeconfig(given: str | None) -> KubeAccess:
    path = given or os.path.expanduser("~/.kube/config")  # noqa: ASYNC240 - once, at the start
    if not any(map(os.path.isfile, path.split(os.pathsep))):
        raise NoCluster(
            f"no cluster: {path} does not exist; set KUBECONFIG, run in a pod, or use --config FILE"
        )
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import load_kube_config
    from kubernetes.aio.config.config_exception import ConfigException

    configuration = Configuration()
    try:
        await load_kube_config(config_file=path, client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise NoCluster(
            f"no cluster: {path}: {error}; set KUBECONFIG, or use --config FILE"
        ) from None

    async def headers() -> dict[str, str]:
        bearer = await configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": bearer} if bearer else {}

    return KubeAccess(configuration.host.rstrip("/"), _tls(configuration), headers)


def _tls(configuration: object) -> ssl.SSLContext | bool:
    """TLS settings of the client library's Configuration; True (the default) for plain HTTP."""
    if not str(getattr(configuration, "host", "")).startswith("https:"):
        return True
    context = _trusting(getattr(configuration, "ssl_ca_cert", None))
    certificate = getattr(configuration, "cert_file", None)
    if certificate:
        context.load_cert_chain(certificate, getattr(configuration, "key_file", None))
    if not getattr(configuration, "verify_ssl", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(authority: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many clusters' CAs lack a key identifier
    return context
