"""Requests to the API server: server-side apply, reads, deletes, and what to do when it says no.

The transport (TLS, kubeconfig, in-cluster tokens and their renewal) is `kubernetes.aio`; its typed
models are not used, for plain dictionaries are what the plan makes and what the watches bring.

Errors are those of `kube/errors.py`. NotFound on a delete, and on a write to an object that has gone
meanwhile, is what the caller wanted; the callers say so where that holds.
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
    """How often one request is repeated before its caller hears of it.

    Short on purpose: what lasts longer than this is the work queue's affair, whose backoff is per
    object and lets other objects pass.
    """

    attempts: int = 3
    base_seconds: float = 0.2
    cap_seconds: float = 5.0

    def delay(self, attempt: int, retry_after: float | None, rng: random.Random) -> float:
        """Seconds before attempt number `attempt` (1 is the first repetition), fully jittered."""
        backoff = rng.uniform(0, min(self.cap_seconds, self.base_seconds * 2.0**attempt))
        return max(backoff, min(retry_after or 0.0, self.cap_seconds))


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that was sent: method, path without query, and the status (0: no answer)."""

    method: str
    path: str
    status: int

    @property
    def is_write(self) -> bool:
        """Whether the request could have changed something."""
        return self.method in WRITE_METHODS


@dataclass(slots=True)
class RequestLog:
    """What was asked of the API server: totals for ever, single requests for the recent past."""

    recent: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=1000))
    totals: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, record: RequestRecord) -> None:
        """Note one request."""
        self.recent.append(record)
        self.totals[record.method, record.status] += 1

    @property
    def writes(self) -> int:
        """Number of requests so far that could have changed something."""
        return sum(n for (method, _), n in self.totals.items() if method in WRITE_METHODS)


def _always() -> bool:
    return True


class Api:
    """The API server, as the operator uses it. Close it when done, or use `async with`."""

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
        """Nothing is sent yet.

        `may_write` is asked before each write; the Lease sets it, so that a process that was
        frozen and has lost its Lease meanwhile writes nothing when it thaws.
        """
        # Requests are bounded by slots; watches each hold a connection, and starve none of them.
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
        """A client for the cluster of `KUBECONFIG`, of this pod, or of `~/.kube/config`.

        Raises:
            Refused: no configuration was found; the message says where it was looked for.
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
        """The object, or None where there is none."""
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
        """The pages (List objects) of a collection; at least one, maybe with no items.

        Raises:
            NotFound: the kind is not served here (its CRD is not installed).
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
            page["items"] = page.get("items") or []  # metadata-only lists write null for none
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
        """Server-side apply: make our fields say this, take them back from whoever else has them.

        Returns the object as it now is. Fields that the manifest does not name stay with their
        owners; fields that an earlier manifest of the same `manager` named and this one does not
        are removed.
        """
        return await self.request(
            "PATCH",
            kind.path(namespace, name, subresource),
            query={"fieldManager": manager, "force": "true"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        """Make a new object; `Conflict` where it exists already."""
        return await self.request("POST", kind.path(namespace), body=manifest)

    async def replace(self, kind: Kind, namespace: str, name: str, manifest: Json) -> Json:
        """Put the whole object; `Conflict` unless its resourceVersion is still the current one."""
        return await self.request("PUT", kind.path(namespace, name), body=manifest)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> bool:
        """Delete exactly this object; False where it had gone already (or is another one now)."""
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
        """An open response, a watch for example; the caller reads and closes it.

        Reading raises aiohttp's own errors, TimeoutError after `silent_seconds` without a byte.

        Raises:
            ApiError: the server refuses; errors of the connection are aiohttp's here too.
        """
        answer = await self._rest.request(
            "GET",
            f"{self.configuration.host}{path}?{urlencode(query)}",
            headers=await self._headers("application/json", "application/json"),
            _request_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5.0, sock_read=silent_seconds
            ),
        )
        response: aiohttp.ClientResponse = answer.response
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
        """One request, repeated by the retry policy while the server is busy or away.

        A write that timed out is not repeated here: it has taken `timeout_seconds` already, and the
        server may still do it.

        Raises:
            ApiError: one of its kinds, see `kube/errors.py`.
        """
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        allowed = self._retry.attempts if attempts is None else attempts
        for attempt in range(1, allowed + 1):
            if method in WRITE_METHODS and not self.may_write():
                raise NotLeader(f"{method} {path} held back: this process lost its Lease")
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
                        answer: Any = orjson.loads(data) if data else {}
                    except ValueError:
                        answer = None
                    if not isinstance(answer, dict):
                        detail = f"HTTP status {status} with a body that is not a JSON object"
                        raise Unreachable(f"{method} {path}: {detail}", detail=detail)
                    return answer
                failure = failure_of(method, path, status, data)
            if not isinstance(failure, Unreachable | Busy) or attempt == allowed:
                raise failure
            await asyncio.sleep(self._retry.delay(attempt, retry_after, self._rng))
        raise AssertionError("a retry policy allows at least one attempt")

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
    """Where the API server is and who we are there: `KUBECONFIG`, this pod, `~/.kube/config`."""
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
