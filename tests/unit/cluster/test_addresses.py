"""Each cluster owns a /16 of its own, chosen so that nothing the host routes is hidden."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from r1_cluster.addresses import FIRST, LAST, Addresses, choose_index

INDEXES = st.integers(0, LAST - FIRST)


@given(INDEXES)
def test_a_clusters_ranges_lie_in_its_network_and_apart(index: int) -> None:
    own = Addresses(index)
    network = ip_network(own.network)
    ranges = [ip_network(own.services), ip_network(own.pods), ip_network(f"{own.host}/30", False)]
    assert all(each.subnet_of(network) for each in ranges)  # type: ignore[arg-type]
    assert not any(one.overlaps(other) for one, other in combinations(ranges, 2))
    assert ip_address(own.kubernetes_service) == ip_network(own.services)[1]
    assert len(own.link) <= 15


@given(st.sets(INDEXES), st.lists(INDEXES.map(lambda index: Addresses(index).pods)))
def test_the_chosen_number_is_free(taken: set[int], routes: list[str]) -> None:
    chosen = choose_index(taken, routes)
    if chosen is None:
        routed = {int(route.split(".")[1]) - FIRST for route in routes}
        assert taken | routed == set(range(LAST - FIRST + 1))
    else:
        assert chosen not in taken
        own = ip_network(Addresses(chosen).network)
        assert not any(own.overlaps(ip_network(route)) for route in routes)


def test_the_lowest_free_number_is_chosen() -> None:
    assert choose_index([], []) == 0
    assert choose_index([0, 2], []) == 1
    assert choose_index([0], ["10.211.4.0/24"]) == 2


def test_a_host_that_routes_10_8_has_no_free_network() -> None:
    assert choose_index([], ["10.0.0.0/8"]) is None
