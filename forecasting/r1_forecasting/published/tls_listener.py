"""TLS listener that requires the front proxy's client certificate and reloads certificates.

Certificates and the front proxy's authority are renewed at run time. Each reload compares them; a
change reopens the port with the new ones (a connection in that moment is refused and retried).
Invalid files leave the port unchanged.
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

RELOAD_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""Interval of reloads while the port is not open."""


@dataclass(slots=True)
class TlsListener:
    """Serves an application at ``host``:``port``; ``folder`` holds ``tls.crt`` and ``tls.key``."""

    host: str
    port: int
    folder: Path
    fetch_trust: Callable[[], Awaitable[FrontProxy]]
    trust: FrontProxy | None = None
    _material: tuple[bytes, bytes, FrontProxy] | None = None
    _sites: list[web.SockSite] = field(default_factory=list)
    _last_error: str = field(default="")

    @property
    def bound_port(self) -> int | None:
        """The port while it is open."""
        return self.port if self._sites else None

    async def serve(self, application: web.Application) -> None:
        """Open the port and reload its certificates, until cancelled."""
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            while True:
                await self.reload(runner)
                await asyncio.sleep(RELOAD_SECONDS if self._sites else RETRY_SECONDS)
        finally:
            await runner.cleanup()
            self._sites.clear()
            self._material = None

    async def reload(self, runner: web.AppRunner) -> None:
        """Open the port, or reopen it after a change; a failure is logged once."""
        try:
            trust = await self.fetch_trust()
            pair = [(self.folder / name).read_bytes() for name in ("tls.crt", "tls.key")]
            material = (pair[0], pair[1], trust)
            if material != self._material:
                await self._open(runner, build_context(self.folder, trust))
                self._material, self.trust = material, trust
            self._last_error = ""
        except (FrontProxyUnavailable, InvalidFrontProxy, OSError) as error:
            if str(error) != self._last_error:
                state = "keeps its certificates" if self._sites else "stays closed"
                LOG.warning("the external metrics port %s: %s", state, error)
            self._last_error = str(error)

    async def _open(self, runner: web.AppRunner, context: ssl.SSLContext) -> None:
        while self._sites:
            await self._sites.pop().stop()
        sockets = listen.bind(self.host, self.port)
        self.port = listen.port_of(sockets)
        for each in sockets:
            site = web.SockSite(runner, each, ssl_context=context)
            await site.start()
            self._sites.append(site)
        LOG.info("serving external metrics on port %d", self.port)


def build_context(folder: Path, trust: FrontProxy) -> ssl.SSLContext:
    """Build the TLS context, which requires a certificate of the front proxy's authorities.

    Raises `FrontProxyUnavailable` where certificate, key or authorities cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except OSError as error:
        raise FrontProxyUnavailable(
            f"tls.crt and tls.key in {folder} are invalid: {error}"
        ) from error
    try:
        context.load_verify_locations(cadata=trust.authorities)
    except OSError as error:
        raise FrontProxyUnavailable(
            f"the front proxy's certificate authorities are invalid: {error}"
        ) from error
    # As in Go, a listed authority is trusted even where another authority signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    return context
