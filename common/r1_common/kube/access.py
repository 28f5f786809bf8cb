"""URL and credentials of the API server: from a pod's service account, or from a kubeconfig.

Requests are made with plain aiohttp: that takes a quarter of the memory and start time of the client
library. The library is imported only to read a kubeconfig, which has many ways to authenticate.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from r1_common.listen import host_port

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Folder with `token` and `ca.crt` that the kubelet mounts into a pod."""


class NoCluster(Exception):
    """No usable service account or kubeconfig; the message has the attempts."""


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """URL, TLS settings and credentials. ``headers`` is called for each request: tokens rotate."""

    url: str
    tls: ssl.SSLContext | bool
    headers: Callable[[], Awaitable[dict[str, str]]]


async def find_access(
    environment: Mapping[str, str] | None = None, *, hint: str = ""
) -> KubeAccess:
    """The cluster of ``KUBECONFIG``, of this pod, or of ``~/.kube/config``, in this order.

    Args:
        environment: instead of ``os.environ``.
        hint: another way to start the program, for the error message.

    Raises:
        NoCluster: no usable credentials.
    """
    env = os.environ if environment is None else environment
    if env.get("KUBECONFIG") or not env.get("KUBERNETES_SERVICE_HOST"):
        return await _from_kubeconfig(env.get("KUBECONFIG"), hint)
    try:
        return from_service_account(api_server_url(env), SERVICE_ACCOUNT)
    except OSError as error:
        raise NoCluster(
            f"{SERVICE_ACCOUNT} has no usable token and ca.crt ({error}): set"
            f" automountServiceAccountToken{hint}"
        ) from None


def api_server_url(environment: Mapping[str, str] | None = None) -> str:
    """URL of the API server inside a pod.

    Raises:
        NoCluster: the variables that Kubernetes sets in every pod are missing.
    """
    env = os.environ if environment is None else environment
    host = env.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise NoCluster("KUBERNETES_SERVICE_HOST is not set: this process runs outside a pod")
    return f"https://{host_port(host, env.get('KUBERNETES_SERVICE_PORT') or '443')}"


def from_service_account(url: str, folder: Path = SERVICE_ACCOUNT) -> KubeAccess:
    """Access with ``token`` and ``ca.crt`` of ``folder``.

    Raises:
        OSError: a file is missing, or ``ca.crt`` holds no certificate (``ssl.SSLError``).
    """
    token = folder / "token"
    token.stat()

    async def headers() -> dict[str, str]:
        # Read for each request: the kubelet renews the token about once an hour.
        return {"Authorization": "Bearer " + token.read_text("ascii").strip()}

    return KubeAccess(url, _trusting(str(folder / "ca.crt")), headers)


async def _from_kubeconfig(given: str | None, hint: str) -> KubeAccess:
    path = given or os.path.expanduser("~/.kube/config")  # noqa: ASYNC240 - once, at the start
    if not any(map(os.path.isfile, path.split(os.pathsep))):
        raise NoCluster(f"no cluster: there is no {path}; set KUBECONFIG, or run in a pod{hint}")
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import load_kube_config
    from kubernetes.aio.config.config_exception import ConfigException

    configuration = Configuration()
    try:
        await load_kube_config(config_file=path, client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise NoCluster(f"no cluster: {path}: {error}; set KUBECONFIG{hint}") from None

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
