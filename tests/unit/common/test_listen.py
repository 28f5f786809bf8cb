"""Sockets to listen on: both IP families by default, one where the kernel has one."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import uvloop
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st

import network_variants
from r1_common import listen
from r1_common.ip_family import prefers_ipv6

needs_ipv6 = pytest.mark.skipif(
    network_variants.unavailable(network_variants.PLAIN) is not None,
    reason="no IPv6 on this machine",
)


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "families"),
    [
        ("::", {"127.0.0.1", "::1"}),
        ("", {"127.0.0.1", "::1"}),
        ("[::]", {"127.0.0.1", "::1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("::1", {"::1"}),
        ("[::1]", {"::1"}),
    ],
)
def test_host_accepts_connections_of_its_ip_families_only(host: str, families: set[str]) -> None:
    sockets = listen.bind(host, 0)
    for each in sockets:
        each.listen()
    port = listen.port_of(sockets)
    assert {peer for peer in ("127.0.0.1", "::1") if connects(peer, port)} == families
    for each in sockets:
        each.close()


def test_name_is_bound_at_all_its_addresses_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = [("127.0.0.1", 0), ("127.0.0.2", 0), ("127.0.0.2", 0)]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses],
    )
    sockets = listen.bind("name.example", 0)
    assert [each.getsockname()[0] for each in sockets] == ["127.0.0.1", "127.0.0.2"]
    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()


@pytest.mark.parametrize("host", ["::", "127.0.0.1"])
def test_a_taken_port_is_an_error_that_names_the_address(host: str) -> None:
    (first,) = listen.bind(host, 0)
    first.listen()
    port = listen.port_of([first])
    with pytest.raises(OSError, match=f":{port}: Address already in use") as error:
        listen.bind(host, port)
    assert error.value.errno == errno.EADDRINUSE
    first.close()


def test_an_address_of_another_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.7:8000: Cannot assign"):
        listen.bind("192.0.2.7", 8000)


PROGRAM = """
from r1_common import listen
for host in ("::", "", "localhost"):
    print([(each.family.name, each.getsockname()[0]) for each in listen.bind(host, 0)])
try:
    listen.bind("::1", 0)
except OSError as error:
    print(error)
"""


def test_a_kernel_without_ipv6_listens_on_every_ipv4_address() -> None:
    reason = network_variants.unavailable(network_variants.NO_IPV6)
    if reason is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [*network_variants.NO_IPV6, sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second, name, refused = done.stdout.splitlines()
    assert first == second == "[('AF_INET', '0.0.0.0')]"
    assert name == "[('AF_INET', '127.0.0.1')]"
    assert "Address family not supported" in refused


@needs_ipv6
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_servers_of_both_event_loops_answer_both_families(run: object) -> None:
    async def serve_and_ask() -> list[int]:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        sockets = listen.bind("::", 0)
        for each in sockets:
            await web.SockSite(runner, each).start()
        port = listen.port_of(sockets)
        async with ClientSession() as session:
            statuses = []
            for host in ("127.0.0.1", "::1"):
                async with session.get(f"http://{listen.host_port(host, port)}/") as answer:
                    statuses.append(answer.status)
        await runner.cleanup()
        return statuses

    assert callable(run)
    assert run(serve_and_ask()) == [404, 404]


@given(st.ip_addresses(), st.integers(1, 65535))
def test_address_in_a_url_parses_back(address: object, port: int) -> None:
    parts = urlsplit(f"http://{listen.host_port(str(address), port)}/x")
    assert (parts.hostname, parts.port) == (str(address), port)


def test_primary_ip_family_of_a_cluster_is_that_of_the_api_server() -> None:
    assert prefers_ipv6({"KUBERNETES_SERVICE_HOST": "fd00:10:96::1"})
    assert not prefers_ipv6({"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert not prefers_ipv6({})
