"""Listening TCP sockets for every process: IPv4 and IPv6 by default, on any cluster.

asyncio and uvloop set ``IPV6_V6ONLY`` on every IPv6 socket that they bind themselves, so their ``::``
refuses IPv4.  The sockets are therefore bound here and handed over (``create_server(sock=...)``,
``aiohttp.web.SockSite``).
"""

from __future__ import annotations

import errno
import os
import socket

EVERY_ADDRESS = "::"
"""The default of every ``--host``: all addresses of the machine, of both families."""

_NO_IPV6 = frozenset(
    {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT}
)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bound sockets for ``host``, which do not listen yet; never an empty list.

    ``::`` or an empty host: one socket for every IPv6 and IPv4 address, or for every IPv4 address
    where the kernel has no IPv6.  ``0.0.0.0``: IPv4 alone.  A name: each address that it has here.
    Port 0 takes a free port, the same for all sockets.

    Raises:
        OSError: an address cannot be bound; the message names it.
    """
    host = host.removeprefix("[").removesuffix("]")
    if host in ("", EVERY_ADDRESS):
        return [_bind_every_address(port)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in dict.fromkeys((each[0], each[4]) for each in found):
        taken = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(family, (address[0], taken, *address[2:])))
        except OSError as error:
            failure = error
            if error.errno not in _NO_IPV6:  # an address of a family that this machine lacks
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
    """``host:port`` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _bind_every_address(port: int) -> socket.socket:
    try:
        return _bind(socket.AF_INET6, (EVERY_ADDRESS, port))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bind(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - the IPv4 part of the same


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Whatever net.ipv6.bindv6only is: IPv4 comes in through :: and through nothing else.
            alone = address[0] != EVERY_ADDRESS
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(alone))
        made.bind(address)
    except OSError as error:
        made.close()
        number = error.errno or errno.EIO
        place = host_port(str(address[0]), str(address[1]))
        raise OSError(number, f"cannot listen on {place}: {os.strerror(number)}") from error
    return made
