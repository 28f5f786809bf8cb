"""Connections between ranks: lost, silent and unknown peers."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from r1_common import listen
from r1_runtime.backends.parallel import refusal
from r1_runtime.backends.parallel.group import RankGroup
from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.parallel.leader import Ranks
from r1_runtime.backends.parallel.link import (
    Link,
    Message,
    MessageKind,
    connect,
    read_message,
    write_message,
)
from r1_runtime.errors import OptionError, RankLostError

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        first = socket.create_connection(server.getsockname())
        second, _ = server.accept()
    yield first, second
    first.close()
    second.close()


def link_of(
    connection: socket.socket, silence: float = 30.0
) -> tuple[Link, queue.Queue[Message], queue.Queue[str]]:
    received: queue.Queue[Message] = queue.Queue()
    lost: queue.Queue[str] = queue.Queue()
    link = Link(connection, received.put, lost.put, heartbeat_seconds=0.05, silence_seconds=silence)
    return link, received, lost


def test_messages_arrive_in_order_and_heartbeats_are_not_delivered(ends: Ends) -> None:
    first, _, _ = link_of(ends[0])
    second, received, lost = link_of(ends[1])
    for size in (0, 1, 100_000):
        first.send(MessageKind.STEP, b"x" * size)
    first.send(MessageKind.STOP)
    messages = [received.get(timeout=10) for _ in range(4)]
    assert [len(message.payload) for message in messages] == [0, 1, 100_000, 0]
    assert [message.kind for message in messages] == [MessageKind.STEP] * 3 + [MessageKind.STOP]
    first.close()
    second.close()
    assert lost.empty(), "STOP is the last message, and the end after it is no loss"


def test_a_closed_connection_is_reported_once(ends: Ends) -> None:
    link, _, lost = link_of(ends[0])
    ends[1].close()
    assert lost.get(timeout=10)
    link.close()
    assert lost.empty()


def test_a_peer_without_heartbeats_is_lost_after_the_silence(ends: Ends) -> None:
    link, _, lost = link_of(ends[0], silence=0.3)
    assert lost.get(timeout=10) == "no heartbeat for 0.3 s"
    link.close()


def test_heartbeats_keep_an_idle_connection(ends: Ends) -> None:
    first, _, _ = link_of(ends[0], silence=1.0)
    second, _, lost = link_of(ends[1], silence=1.0)
    with pytest.raises(queue.Empty):
        lost.get(timeout=2.5)
    first.close()
    second.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x04\xff\xff\xff\xff"])
def test_bytes_of_another_protocol_are_no_message(ends: Ends, garbage: bytes) -> None:
    ends[0].sendall(garbage)
    with pytest.raises(ConnectionError, match="no message"):
        read_message(ends[1])


def test_unknown_connections_take_no_rank_s_place() -> None:
    listeners = listen.bind("127.0.0.1", 0)
    for each in listeners:
        each.listen()
    address = ("127.0.0.1", listen.port_of(listeners))
    connections = []
    for hello in (b"GET /metrics HTTP/1.1\r\n\r\n", b"7", b"0", b"1"):
        connection = socket.create_connection(address)
        connections.append(connection)
        if hello.isdigit():
            write_message(connection, Message(MessageKind.HELLO, hello))
        else:
            connection.sendall(hello)
    ranks = Ranks(2, {}, lambda _: None)
    ranks.accept(listeners, 10)
    for connection in connections[:3]:
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    ranks.send(MessageKind.STOP)
    while (message := read_message(connections[3])).kind is MessageKind.HEARTBEAT:
        pass
    assert message.kind is MessageKind.STOP
    ranks.close()
    for each in [*connections, *listeners]:
        each.close()


def test_ranks_that_do_not_connect_in_time_are_named() -> None:
    listeners = listen.bind("127.0.0.1", 0)
    for each in listeners:
        each.listen()
    with pytest.raises(RankLostError, match=r"\[1, 2\] of 3 have not connected within 0.3 s"):
        Ranks(3, {}, lambda _: None).accept(listeners, 0.3)
    for each in listeners:
        each.close()


@pytest.fixture
def leader_port(monkeypatch: pytest.MonkeyPatch) -> int:
    listeners = listen.bind("127.0.0.1", 0)
    port = listen.port_of(listeners)
    for each in listeners:
        each.close()
    monkeypatch.setattr(refusal, "LEADER_PORT", port)
    return port


def pod(number: int) -> RankGroup:
    return RankGroup(ParallelLayout(1, 3), pods=3, pod=number, leader="127.0.0.1")


REFUSED = OptionError("memory: too little. Fix: more.")


def test_a_refusal_reaches_every_rank_and_no_other_client(leader_port: int) -> None:
    telling = threading.Thread(target=refusal.refuse_start, args=(pod(0), REFUSED, 20))
    telling.start()
    stranger = connect("127.0.0.1", leader_port, 10)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    for rank in (2, 1):
        with closing(connect("127.0.0.1", leader_port, 10)) as connection:
            write_message(connection, Message(MessageKind.HELLO, str(rank).encode()))
            message = read_message(connection)
        assert message.kind is MessageKind.REFUSED
        assert message.text == "OptionError: memory: too little. Fix: more."
    telling.join(10)
    assert not telling.is_alive(), "no rank is missing any more"
    stranger.close()


def test_a_pod_that_does_not_start_ends_the_leader_before_all_have_connected(
    leader_port: int,
) -> None:
    telling = threading.Thread(target=refusal.refuse_start, args=(pod(2), REFUSED, 20))
    telling.start()
    listeners = listen.bind("127.0.0.1", leader_port)
    for each in listeners:
        each.listen()
    reported: list[RankLostError] = []
    ranks = Ranks(3, {}, reported.append)
    with pytest.raises(RankLostError, match="rank 2 of 3 is lost: OptionError: memory"):
        ranks.accept(listeners, 20)
    assert len(reported) == 1
    ranks.close(reported[0])
    telling.join(10)
    assert not telling.is_alive()
    for each in listeners:
        each.close()


def test_a_loss_at_the_start_is_the_message_of_the_other_ranks() -> None:
    listeners = listen.bind("127.0.0.1", 0)
    for each in listeners:
        each.listen()
    with closing(connect("127.0.0.1", listen.port_of(listeners), 10)) as connection:
        write_message(connection, Message(MessageKind.HELLO, b"1"))
        ranks = Ranks(2, {}, lambda _: None)
        ranks.accept(listeners, 10)
        ranks.close(RankLostError("ranks: rank 3 is lost"))
        while (message := read_message(connection)).kind is MessageKind.HEARTBEAT:
            pass
    assert (message.kind, message.text) == (MessageKind.FAILED, "ranks: rank 3 is lost")
    for each in listeners:
        each.close()


def test_a_single_pod_informs_no_one() -> None:
    refusal.refuse_start(RankGroup(ParallelLayout(2, 1)), REFUSED)


def test_the_first_of_several_losses_is_the_reported_one() -> None:
    reported: list[RankLostError] = []
    ranks = Ranks(3, {}, reported.append)
    failures = [RankLostError(str(number)) for number in range(8)]
    threads = [threading.Thread(target=ranks.fail, args=(failure,)) for failure in failures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reported) == 1
    assert ranks.failure is reported[0]
    with pytest.raises(RankLostError):
        ranks.wait_until_loaded()
