"""The HTTP session of prometheus-api-client: credentials, TLS, and typed failures.

prometheus-api-client sends each query through ``requests.Session.request`` and returns only
``data.result``. This session adds the configured headers and TLS, parses the response, raises
`PrometheusError` unless the response holds a result, and stores the warnings of partial data.
"""

from __future__ import annotations

import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.credentials import TlsFiles, request_headers
from r1_common.prometheus.response import (
    MAX_RESPONSE_BYTES,
    HttpResponse,
    QueryResult,
    read_response,
    unreachable,
)

_PIECE = 256 << 10
_RETRY = Retry(total=1, backoff_factor=0.1, redirect=0)
"""One retry after a connection error: a keep-alive connection may be closed."""


class _Adapter(HTTPAdapter):
    """Verifies certificates with the given context and no other authorities."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(max_retries=_RETRY)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(*args, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """requests would add its own bundle of authorities to the context."""
        conn.cert_reqs = "CERT_REQUIRED"


class PrometheusSession(requests.Session):
    """Raises `PrometheusError` unless the response holds a result. For one thread."""

    last: QueryResult | None = None
    """The result of the last request."""

    def __init__(self, config: PrometheusConfig) -> None:
        super().__init__()
        # No proxy, no .netrc and no other CA bundle: only the configuration applies, as in the
        # operator.
        self.trust_env = False
        self._config = config
        self._tls = TlsFiles(config)
        self._adapter = _Adapter(None)

    def get_adapter(self, url: str | bytes) -> HTTPAdapter:
        """Return the adapter for all URLs; a changed TLS file creates a new one."""
        if self._config.url.startswith("https:"):
            context = self._tls.context()
            if self._adapter._context is not context:
                self._adapter.close()
                self._adapter = _Adapter(context)
        return self._adapter

    def request(self, method: str, url: str | bytes, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send the request, and store the result of the response in `last`."""
        self.last = None
        mine = request_headers(self._config)
        options |= {"headers": mine.headers, "allow_redirects": False, "stream": True, "auth": None}
        try:
            with super().request(method, url, **options) as response:
                body = b""
                for piece in response.iter_content(_PIECE):
                    body += piece
                    if len(body) > MAX_RESPONSE_BYTES:
                        break
        except (requests.RequestException, OSError) as error:
            raise unreachable(self._config.url, _cause(error), mine.secrets) from None
        parsed = HttpResponse(response.status_code, response.headers, body)
        self.last = read_response(self._config.url, parsed, mine.secrets)
        response._content, response._content_consumed = body, True
        return response


def _cause(error: Exception) -> str:
    """The innermost cause; requests and urllib3 wrap it in texts with the whole URL."""
    if isinstance(error, requests.Timeout):
        return "timed out"
    inner: BaseException = error
    while True:
        args = [one for one in inner.args if isinstance(one, BaseException)]
        reason = getattr(inner, "reason", None)
        deeper = (
            reason
            if isinstance(reason, BaseException)
            else args[0]
            if args
            else inner.__cause__ or inner.__context__
        )
        if deeper is None or deeper is inner:
            break
        inner = deeper
    text = str(inner) or type(inner).__name__
    if isinstance(inner, ssl.SSLError):
        return f"TLS: {text}; check prometheus.auth.caKey"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return f"{type(error).__name__}: {text}"
