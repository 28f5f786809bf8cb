"""A fake Prometheus with scripted responses, over HTTP or HTTPS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NOW = 1_700_000_000.0


@dataclass(slots=True)
class Reply:
    """A response; `cut` closes the connection after that many bytes of the body."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(slots=True)
class Script:
    """The reply, the required request headers, and the requests so far."""

    url: str = ""
    reply: Reply = field(default_factory=Reply)
    accepted: dict[str, str] = field(default_factory=dict)
    """Headers without which a request gets 401."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def queries(self) -> list[str]:
        """The PromQL of each request."""
        return [parse_qs(urlsplit(path).query)["query"][0] for path, _ in self.requests]


def success(result: list[Any], kind: str = "matrix", **more: Any) -> bytes:
    """The body of a successful query."""
    data = {"resultType": kind, "result": result}
    return json.dumps({"status": "success", "data": data} | more).encode()


def matrix(*values: float, **more: Any) -> bytes:
    """One series, one value per minute up to `NOW`."""
    first = NOW - 60 * (len(values) - 1)
    pairs = [[first + 60 * n, str(value)] for n, value in enumerate(values)]
    return success([{"metric": {}, "values": pairs}], **more)


def vector(value: float, **more: Any) -> bytes:
    """One instant value."""
    return success([{"metric": {}, "value": [NOW, str(value)]}], "vector", **more)


@contextmanager
def scripted(context: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Run the server on a free port of 127.0.0.1."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script.requests.append((self.path, dict(self.headers)))
            reply = script.reply
            given = {name.lower(): value for name, value in self.headers.items()}
            if any(given.get(name.lower()) != value for name, value in script.accepted.items()):
                reply = Reply(401, b"Unauthorized\n", "text/plain")
            self.send_response(reply.status)
            if reply.content_type:
                self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
            self.close_connection = reply.cut is not None

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore handshakes that a client ends because of the certificate."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        script.url = f"http{'' if context is None else 's'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
