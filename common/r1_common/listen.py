"""TCP sockets to listen on, for IPv4 and IPv6 by default.

asyncio and uvloop set ``IPV6_V6ONLY`` on every IPv6 socket that they bind, so their ``::`` does not
accept IPv4. The sockets are therefore bound here and passed on (``create_server(sock=...)``,
``aiohttp.web.SockSite``).
"""

from __future__ import annotations

import errno
import os
import socket

EVERY_ADDRESS = "::"
"""Default of every ``--host``: all addresses of the machine, of both families."""

_NO_IPV6 = frozenset(
    {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT}
)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind sockets for ``host``, without listening yet; never returns an empty list.

    ``::`` or an empty host: one socket for all IPv6 and IPv4 addresses, or for all IPv4 addresses
    where the kernel has no IPv6. ``0.0.0.0``: IPv4 only. A name: each address it resolves to.
    Port 0 selects a free port, the same for all sockets.

    Raises:
        OSError: an address cannot be bound; the message names it.
    """
    host = host.removeprefix("[").removesuffix("]")
    if host in ("", EVERY_ADDRESS):
        return [_bind_every_address(port)]
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in dict.fromkeys((each[0], each[4]) for each in resolved):
        bound_port = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(family, (address[0], bound_port, *address[2:])))
        except OSError as error:
            failure = error
            if error.errno not in _NO_IPV6:  # else the machine lacks this IP family
                break
    else:
        if sockets:
            return sockets
    for each in sockets:
        each.close()
    raise failure or OSError(errno.EADDRNOTAVAIL, f"{host} has no address to listen on")


def port_of(sockets: list[socket.socket]) -> int:
    """The port of sockets that :func:`bind` returned."""
    return int(sockets[0].getsockname()[1])


def host_port(host: str, port: int | str) -> str:
    """``host:port`` for a URL, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _bind_every_address(port: int) -> socket.socket:
    try:
        return _bind(socket.AF_INET6, (EVERY_ADDRESS, port))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bind(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - all IPv4 addresses


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Independent of net.ipv6.bindv6only: :: accepts IPv4, and no other address does.
            v6_only = address[0] != EVERY_ADDRESS
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6_only))
        bound.bind(address)
    except OSError as error:
        bound.close()
        number = error.errno or errno.EIO
        place = host_port(str(address[0]), str(address[1]))
        raise OSError(number, f"cannot listen on {place}: {os.strerror(number)}") from error
    return bound
