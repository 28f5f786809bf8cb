"""Objects of a watch may have any JSON shape: the watch goes on and the other routes stay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1_common.kube.access import KubeAccess
from r1_common.kube.list_watch import InvalidEvent, WatchEnded
from r1_gateway.gateway import Gateway
from r1_gateway.kube.discovery import EndpointSliceStore, RouteStore
from r1_gateway.kube.watched_objects import WatchedObjects
from r1_gateway.telemetry.metrics import MetricsPage
from r1_gateway.telemetry.process_metrics import ProcessStats

NAMES = [
    "metadata", "name", "namespace", "labels", "creationTimestamp", "resourceVersion", "data",
    "route.json", "kubernetes.io/service-name", "endpoints", "addresses", "conditions", "ready",
    "terminating", "ports", "port", "targetRef", "uid", "items", "continue", "models",
    "seatsPerReplica", "classes", "timeouts", "Q1", "totalSeconds", "defaultClass",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(allow_nan=False),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["\ud800", "", "٣", "default", "good", "http", "10.0.0.1", "::1", *NAMES]),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=20,
)
METADATA = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]) | ANYTHING, "namespace": st.just("default") | ANYTHING},
    optional={
        "labels": st.just({"kubernetes.io/service-name": "other"}) | ANYTHING,
        "creationTimestamp": ANYTHING,
        "resourceVersion": ANYTHING,
    },
)
ROUTE = st.fixed_dictionaries(
    {"namespace": st.just("default"), "name": st.sampled_from(["a", "b"]) | ANYTHING},
    optional=dict.fromkeys(("models", "classes", "timeouts", "defaultClass"), ANYTHING)
    | {"seatsPerReplica": st.integers(1, 9) | ANYTHING},
)
OBJECTS = ANYTHING | st.fixed_dictionaries(
    {"metadata": METADATA | ANYTHING},
    optional={
        "data": st.builds(lambda route: {"route.json": json.dumps(route)}, ROUTE) | ANYTHING,
        "ports": st.just([{"port": 8000}]) | ANYTHING,
        "endpoints": st.lists(
            st.fixed_dictionaries(
                {"addresses": st.just(["10.0.0.9"]) | ANYTHING},
                optional={"conditions": ANYTHING, "targetRef": ANYTHING},
            )
            | ANYTHING,
            max_size=3,
        )
        | ANYTHING,
    },
)
KINDS = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]) | ANYTHING.filter(
    lambda kind: kind != "ERROR"
)
GOOD_ROUTE = {
    "metadata": {"name": "good", "namespace": "default"},
    "data": {
        "route.json": '{"namespace":"default","name":"good","models":["good"],"seatsPerReplica":2}'
    },
}
GOOD_SLICE = {
    "metadata": {
        "name": "good-1",
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": "good"},
    },
    "ports": [{"name": "http", "port": 8000}],
    "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"uid": "u1"}}],
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """No captured lines: half surrogates in them cannot travel between two test processes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def figures_of(routes: RouteStore) -> ProcessStats:
    """What the metrics show of refused ConfigMaps."""
    return ProcessStats(invalid_configmaps=lambda: list(routes.invalid_configmaps))


class Mirror:
    """Both watches of a gateway, without an API server."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        self.routes, self.pods = RouteStore(), EndpointSliceStore()
        self.watches = [
            WatchedObjects(cast("Any", None), cast("KubeAccess", None), "/objects", "", on_change)
            for on_change in (self.on_route, self.on_slice)
        ]
        self.apply("ADDED", GOOD_ROUTE, 0)
        self.apply("ADDED", GOOD_SLICE, 1)

    def on_route(self, key: str, item: Any) -> None:
        if self.routes.apply(key, item):
            self.gateway.set_routes(self.routes.oldest_first())

    def on_slice(self, key: str, item: Any) -> None:
        for service in self.pods.apply(key, item):
            self.gateway.set_pods(service, self.pods.readiness(service))

    def apply(self, kind: Any, item: Any, which: int) -> None:
        self.watches[which].list_watch.handle({"type": kind, "object": item})


@given(st.lists(st.tuples(KINDS, OBJECTS, st.integers(0, 1)), max_size=4))
@example([("ADDED", {"metadata": {"name": "\ud800", "namespace": "default"}}, 0)])
def test_an_object_of_any_shape_ends_no_watch_and_removes_no_other_route(
    events: list[tuple[Any, Any, int]],
) -> None:
    watch = Mirror()
    for kind, item, which in events:
        if "good" not in repr(item):  # else it may mean the route that has to stay
            with contextlib.suppress(InvalidEvent):  # listed again
                watch.apply(kind, item, which)
    assert watch.gateway.models.routes["default/good"] == "default/good"
    assert [each.address for each in watch.gateway.routes["default/good"].admission.pool] == [
        "10.0.0.1:8000"
    ]
    page = asyncio.run(MetricsPage(watch.gateway, figures_of(watch.routes)).render())
    assert b"default" in page


@given(ANYTHING)
def test_an_error_event_of_any_shape_is_a_declared_error(item: Any) -> None:
    watch = Mirror()
    with pytest.raises(WatchEnded):
        watch.apply("ERROR", item, 0)
    assert "default/good" in watch.gateway.routes
