"""Instant queries to Prometheus with the shared client configuration."""

from __future__ import annotations

import aiohttp

from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.credentials import TlsFiles, request_headers
from r1_common.prometheus.response import (
    MAX_RESPONSE_BYTES,
    HttpResponse,
    QueryResult,
    read_response,
    unreachable,
)
from r1_common.prometheus.selectors import add_matchers

_CHUNK_BYTES = 256 << 10


class PrometheusApi:
    """Client of `/api/v1/query`, without redirects and without proxies from the environment."""

    def __init__(self, config: PrometheusConfig, *, timeout_seconds: float = 10.0) -> None:
        self._config = config
        self._tls = TlsFiles(config)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def query(self, promql: str) -> QueryResult:
        """Run an instant query with the configured matchers.

        Raises:
            PrometheusError: the query failed; the message has status and cause.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url, request = self._config.url, request_headers(self._config)
        try:
            async with self._session.get(
                f"{url}/api/v1/query",
                params={"query": add_matchers(promql, self._config.matchers)},
                headers=request.headers,
                ssl=self._tls.context() if url.startswith("https:") else True,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > MAX_RESPONSE_BYTES:
                        break
        except TimeoutError:
            raise unreachable(url, f"no response within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(url, str(error) or type(error).__name__, request.secrets) from None
        http_response = HttpResponse(response.status, response.headers, bytes(body))
        return read_response(url, http_response, request.secrets)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
