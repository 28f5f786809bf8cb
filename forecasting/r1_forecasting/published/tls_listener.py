"""A TLS port that opens only to the front proxy's certificate, and follows all its keys.

Certificates and the front proxy's authority are renewed while this runs. Each look compares
them; a change opens the port anew with the new ones (a moment in which a connection is refused
and tried again), and what cannot be used leaves the port as it was.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from r1_common import listen
from r1_forecasting.published.front_proxy import FrontProxy, InvalidFrontProxy
from r1_forecasting.published.service_account import FrontProxyUnavailable

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""Between looks while the port is not open yet."""


@dataclass(slots=True)
class TlsListener:
    """Serves an application at ``host``:``port``; ``folder`` holds ``tls.crt`` and ``tls.key``."""

    host: str
    port: int
    folder: Path
    fetch: Callable[[], Awaitable[FrontProxy]]
    trust: FrontProxy | None = None
    _material: tuple[bytes, bytes, FrontProxy] | None = None
    _sites: list[web.SockSite] = field(default_factory=list)
    _said: str = field(default="")

    @property
    def bound_port(self) -> int | None:
        """The port while it is open."""
        return self.port if self._sites else None

    async def follow(self, application: web.Application) -> None:
        """Open the port and keep it on the newest keys, until cancelled."""
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            while True:
                await self.look(runner)
                await asyncio.sleep(LOOK_SECONDS if self._sites else RETRY_SECONDS)
        finally:
            await runner.cleanup()
            self._sites.clear()
            self._material = None

    async def look(self, runner: web.AppRunner) -> None:
        """Open the port, or open it anew where keys have changed; a failure is logged once."""
        try:
            trust = await self.fetch()
            pair = [(self.folder / name).read_bytes() for name in ("tls.crt", "tls.key")]
            material = (pair[0], pair[1], trust)
            if material != self._material:
                await self._open(runner, build_context(self.folder, trust))
                self._material, self.trust = material, trust
            self._said = ""
        except (FrontProxyUnavailable, InvalidFrontProxy, OSError) as error:
            if str(error) != self._said:
                state = "stays as it is" if self._sites else "stays closed"
                LOG.warning("the port for external metrics %s: %s", state, error)
            self._said = str(error)

    async def _open(self, runner: web.AppRunner, context: ssl.SSLContext) -> None:
        while self._sites:
            await self._sites.pop().stop()
        sockets = listen.bind(self.host, self.port)
        self.port = listen.port_of(sockets)
        for each in sockets:
            site = web.SockSite(runner, each, ssl_context=context)
            await site.start()
            self._sites.append(site)
        LOG.info("external metrics are served at port %d", self.port)


def build_context(folder: Path, trust: FrontProxy) -> ssl.SSLContext:
    """TLS that shows our certificate and demands one of the front proxy's authorities.

    Raises ``Unreadable`` where certificate, key or authorities cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except OSError as error:
        raise FrontProxyUnavailable(
            f"tls.crt and tls.key of {folder} cannot be used: {error}"
        ) from error
    try:
        context.load_verify_locations(cadata=trust.authorities)
    except OSError as error:
        raise FrontProxyUnavailable(
            f"the front proxy's authorities cannot be used: {error}"
        ) from error
    # As in Go, an authority that is listed is trusted even where another one signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    return context
