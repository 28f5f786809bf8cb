"""Client of the API server: server-side apply, reads, deletes, watches, retries.

`kubernetes.aio` provides the transport (TLS, kubeconfig, in-cluster tokens and their renewal). Its
typed models are not used, because the plan and the watches work with plain dictionaries.

Errors are those of `kube/errors.py`. Callers handle NotFound on a delete and on a write to a deleted
object.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from r1_operator.kube.connections import Rest
from r1_operator.kube.errors import (
    Busy,
    Conflict,
    KubeApiError,
    NotFound,
    NotLeader,
    RequestRefused,
    Unreachable,
    failure_of,
)
from r1_operator.kube.kinds import Json, Kind

FIELD_MANAGER = "r1-operator"
WRITE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})

__all__ = [
    "FIELD_MANAGER",
    "Api",
    "Busy",
    "Conflict",
    "KubeApiError",
    "NotFound",
    "NotLeader",
    "RequestLog",
    "RequestRecord",
    "RequestRefused",
    "RetryPolicy",
    "Unreachable",
    "load_configuration",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries of one request inside the client.

    The retries are short: the work queue handles longer failures, with a backoff per object that does
    not block other objects.
    """

    attempts: int = 3
    base_seconds: float = 0.2
    cap_seconds: float = 5.0

    def delay(self, attempt: int, retry_after: float | None, rng: random.Random) -> float:
        """Seconds before retry number `attempt` (from 1), with full jitter."""
        backoff = rng.uniform(0, min(self.cap_seconds, self.base_seconds * 2.0**attempt))
        return max(backoff, min(retry_after or 0.0, self.cap_seconds))


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One sent request: method, path without query, HTTP status (0: no response)."""

    method: str
    path: str
    status: int

    @property
    def is_write(self) -> bool:
        """Whether the request is a write."""
        return self.method in WRITE_METHODS


@dataclass(slots=True)
class RequestLog:
    """Sent requests: totals since the start, and the last 1000 requests."""

    recent: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=1000))
    totals: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, record: RequestRecord) -> None:
        """Add one request."""
        self.recent.append(record)
        self.totals[record.method, record.status] += 1

    @property
    def writes(self) -> int:
        """Number of writes since the start."""
        return sum(n for (method, _), n in self.totals.items() if method in WRITE_METHODS)


def _always() -> bool:
    return True


class Api:
    """Client of one API server. Close it after use, or use `async with`."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        retry: RetryPolicy | None = None,
        max_concurrent: int = 16,
        timeout_seconds: float = 15.0,
        may_write: Callable[[], bool] = _always,
        rng: random.Random | None = None,
    ) -> None:
        """Create the client without a request.

        `may_write` is called before each write. Leader election sets it, so that a process that was
        suspended and lost its Lease writes nothing after it resumes.
        """
        # `_slots` limits requests. Watches hold one connection each and must not starve requests.
        configuration.connection_pool_maxsize = 0
        self.configuration = configuration
        self._rest = Rest(configuration)
        self._retry = retry or RetryPolicy()
        self._slots = asyncio.Semaphore(max_concurrent)
        self._timeout = timeout_seconds
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self.may_write = may_write
        self.log = RequestLog()

    @classmethod
    async def connect(cls, **options: Any) -> Self:
        """Create a client for the cluster of `KUBECONFIG`, of this pod, or of `~/.kube/config`.

        Raises:
            RequestRefused: no configuration was found; the message names the searched places.
        """
        return cls(await load_configuration(), **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """The object, or None if it does not exist."""
        try:
            return await self.request("GET", kind.path(namespace, name))
        except NotFound:
            return None

    async def list_pages(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        page_size: int = 250,
    ) -> AsyncIterator[Json]:
        """The pages (List objects) of a collection: at least one, which may be empty.

        Raises:
            NotFound: the API server does not serve the kind (its CRD is not installed).
            Unreachable: a response is no list.
        """
        query = {"limit": str(page_size)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        accept = "application/json"
        if metadata_only:
            accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        while True:
            page = await self.request("GET", kind.path(namespace), query=query, accept=accept)
            if "items" not in page:  # not a list: it must not count as one without objects
                detail = "a list without items"
                raise Unreachable(f"GET {kind.path(namespace)}: {detail}", detail=detail)
            page["items"] = page["items"] or []  # metadata-only lists have null for an empty list
            yield page
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        manifest: Json,
        *,
        subresource: str | None = None,
        manager: str = FIELD_MANAGER,
    ) -> Json:
        """Apply a manifest server-side with force: take over its fields from other managers.

        Returns the applied object. Fields outside the manifest stay with their owners. Fields that an
        earlier manifest of the same `manager` had and this one has not are removed.
        """
        return await self.request(
            "PATCH",
            kind.path(namespace, name, subresource),
            query={"fieldManager": manager, "force": "true"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        """Create an object; raises `Conflict` if it exists."""
        return await self.request("POST", kind.path(namespace), body=manifest)

    async def replace(self, kind: Kind, namespace: str, name: str, manifest: Json) -> Json:
        """Replace an object; raises `Conflict` unless its resourceVersion is the current one."""
        return await self.request("PUT", kind.path(namespace, name), body=manifest)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> bool:
        """Delete an object; False if it does not exist or has another uid."""
        body: Json = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(namespace, name), body=body)
        except (NotFound, Conflict):
            return False
        return True

    async def stream(
        self, path: str, query: Mapping[str, str], *, silent_seconds: float | None = None
    ) -> aiohttp.ClientResponse:
        """Open a response, such as a watch; the caller reads and closes it.

        Reading raises the errors of aiohttp, TimeoutError after `silent_seconds` without a byte.

        Raises:
            KubeApiError: the server rejects the request. Connection errors are those of aiohttp.
        """
        opened = await self._rest.request(
            "GET",
            f"{self.configuration.host}{path}?{urlencode(query)}",
            headers=await self._headers("application/json", "application/json"),
            _request_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5.0, sock_read=silent_seconds
            ),
        )
        response: aiohttp.ClientResponse = opened.response
        if response.status >= 300:
            raise failure_of("GET", path, response.status, await response.read())
        return response

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_seconds: float | None = None,
        attempts: int | None = None,
    ) -> Json:
        """Send a request; retry while the server is busy or unreachable.

        A write that timed out is not retried: `timeout_seconds` have passed, and the server may still
        execute it.

        Raises:
            KubeApiError: a subclass, see `kube/errors.py`.
        """
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        allowed = self._retry.attempts if attempts is None else attempts
        for attempt in range(1, allowed + 1):
            if method in WRITE_METHODS and not self.may_write():
                raise NotLeader(f"{method} {path} not sent: this process does not hold the Lease")
            try:
                status, retry_after, data = await self._send(
                    method, url, body, content_type, accept, timeout_seconds or self._timeout
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.log.add(RequestRecord(method, path, 0))
                detail = str(error) or type(error).__name__
                failure: KubeApiError = Unreachable(f"{method} {path}: {detail}", detail=detail)
                retry_after = None
                if isinstance(error, TimeoutError) and method in WRITE_METHODS:
                    raise failure from error
            else:
                self.log.add(RequestRecord(method, path, status))
                if status < 300:
                    try:
                        result: Any = orjson.loads(data) if data else {}
                    except ValueError:
                        result = None
                    if not isinstance(result, dict):
                        detail = f"HTTP status {status} with a body that is not a JSON object"
                        raise Unreachable(f"{method} {path}: {detail}", detail=detail)
                    return result
                failure = failure_of(method, path, status, data)
            if not isinstance(failure, Unreachable | Busy) or attempt == allowed:
                raise failure
            await asyncio.sleep(self._retry.delay(attempt, retry_after, self._rng))
        raise AssertionError("a retry policy has at least one attempt")

    async def _send(
        self,
        method: str,
        url: str,
        body: Json | None,
        content_type: str,
        accept: str,
        timeout_seconds: float,
    ) -> tuple[int, float | None, bytes]:
        headers = await self._headers(content_type, accept)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=5.0)
        async with self._slots:
            response = await self._rest.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            data: bytes = await response.read()
        return response.status, _seconds(response.headers.get("Retry-After")), data

    async def _headers(self, content_type: str, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        for auth in (await self.configuration.auth_settings()).values():
            if auth["in"] == "header":
                headers[auth["key"]] = auth["value"]
        return headers


async def load_configuration() -> Configuration:
    """Find address and credentials: `KUBECONFIG`, this pod, or `~/.kube/config`."""
    configuration = type.__call__(Configuration)
    kubeconfig = os.environ.get("KUBECONFIG")
    try:
        if kubeconfig:
            await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        elif os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)
        else:
            home = str(Path.home() / ".kube" / "config")
            await load_kube_config(config_file=home, client_configuration=configuration)
    except (ConfigException, FileNotFoundError) as error:
        raise RequestRefused(
            "no Kubernetes cluster is configured: set KUBECONFIG to a kubeconfig file, or run in a"
            f" pod with a service account ({error})"
        ) from error
    return configuration


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(retry_after[:9])
