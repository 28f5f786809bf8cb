"""Leader election by a `coordination.k8s.io` Lease.

The Lease names its holder and the time of the last renewal. Clocks of two machines are never compared:
a standby records on its own monotonic clock when it last observed a change of the Lease, and takes over
one lease duration later. This clock also advances while the machine is suspended, when another process
may take the Lease. Every write has the resourceVersion of the last read, so that the API server accepts
one of two concurrent writes.

The holder stops before a standby takes over: it may write (`is_held`) until two thirds of the duration
after it sent its last successful renewal. A holder that loses the Lease ends its process; it cannot
return to standby, because its in-memory state would be outdated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from r1_common.clock import seconds_since_boot
from r1_operator.kube.client import Api, Conflict, KubeApiError
from r1_operator.kube.kinds import LEASE, Json

LEASE_LABEL = ("deepseek.ai/leader-election", "r1-operator")
"""Label of the Lease, by which `r1 explain` finds the active operator in any namespace."""

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another process may write now; this process must end."""


class LeaderElector:
    """Acquires, renews and releases one Lease for this process."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float = 15.0,
        renew_seconds: float = 5.0,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        """`identity` is `NAME_SUFFIX`: NAME is unique among live processes, SUFFIX among all.

        A holder with the same NAME and another SUFFIX is the previous container of this pod. It has
        ended, so that this process takes its Lease without waiting.
        """
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._renewed_at: float | None = None
        self._other_holder = ""
        self._observed_record: tuple[str, str] | None = None
        self._observed_at = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this process may write now."""
        sent = self._renewed_at
        return sent is not None and self._clock() - sent < self._lease_seconds * 2 / 3

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            try:
                if await self._try_acquire_or_renew():
                    logger.info(
                        "Lease %s/%s acquired by %s", self._namespace, self._name, self._identity
                    )
                    return
            except KubeApiError as error:
                logger.warning(
                    "Lease %s/%s was not acquired, retrying: %s",
                    self._namespace,
                    self._name,
                    error,
                )
            await asyncio.sleep(self._renew_seconds / 2)

    async def renew(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LeaseLost: the Lease was not renewed in time, or another process holds it.
        """
        while True:
            await asyncio.sleep(self._renew_seconds if self._renewed_recently() else 1.0)
            try:
                renewed = await self._try_acquire_or_renew()
            except KubeApiError as error:
                logger.warning(
                    "Lease %s/%s was not renewed: %s", self._namespace, self._name, error
                )
            else:
                if not renewed and self._other_holder:
                    raise LeaseLost(
                        f"{self._other_holder} holds Lease {self._namespace}/{self._name}"
                    )
            if not self.is_held:
                raise LeaseLost(f"Lease {self._namespace}/{self._name} was not renewed in time")

    async def release(self) -> None:
        """Release the Lease so that a standby takes over at once; best effort, since it expires anyway."""
        if not self.is_held:
            return
        try:
            lease = await self._api.get(LEASE, self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._api.replace(LEASE, self._namespace, self._name, lease)
        except KubeApiError as error:
            logger.warning("releasing Lease %s/%s: %s", self._namespace, self._name, error)
        self._renewed_at = None

    def _renewed_recently(self) -> bool:
        sent = self._renewed_at
        return sent is not None and self._clock() - sent < self._renew_seconds

    async def _try_acquire_or_renew(self) -> bool:
        sent = self._clock()
        lease = await self._request("GET")
        if lease is None:
            acquired = await self._write("POST", self._manifest(None))
        elif self._may_acquire(lease):
            acquired = await self._write("PUT", self._manifest(lease))
        else:
            acquired = False
        if acquired:
            self._renewed_at = sent
        return acquired

    def _may_acquire(self, lease: Json) -> bool:
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity", "")
        if holder in ("", self._identity):
            return True
        if self._renewed_at is None and _pod_name(holder) == _pod_name(self._identity):
            return True
        if self._renewed_at is not None:
            self._other_holder = holder  # another process took it over: do not take it back
            return False
        record = (holder, lease["metadata"]["resourceVersion"])
        if record != self._observed_record:
            self._observed_record, self._observed_at = record, self._clock()
            return False
        duration = float(spec.get("leaseDurationSeconds") or self._lease_seconds)
        return self._clock() - self._observed_at > duration

    def _manifest(self, old: Json | None) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Json = dict(old.get("spec", {})) if old else {}
        if spec.get("holderIdentity") != self._identity:
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + (1 if old else 0)
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._lease_seconds),
            "renewTime": now,
        }
        metadata: Json = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": dict([LEASE_LABEL]),
        }
        if old:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": metadata,
            "spec": spec,
        }

    async def _write(self, method: str, manifest: Json) -> bool:
        try:
            await self._request(method, manifest)
        except Conflict:
            return False  # another write came first
        return True

    async def _request(self, method: str, body: Json | None = None) -> Json | None:
        # One attempt with a short timeout: the loops above retry and check the time.
        path = LEASE.path(self._namespace, None if method == "POST" else self._name)
        try:
            return await self._api.request(
                method, path, body=body, attempts=1, timeout_seconds=self._lease_seconds / 5
            )
        except KubeApiError as error:
            if method == "GET" and error.status == 404:
                return None
            raise


def _pod_name(identity: str) -> str:
    return identity.rpartition("_")[0] or identity
