"""What every test may ask for: a real API server, or a whole cluster.

- `apiserver` (mark `apiserver`): kubeconfig of an etcd and kube-apiserver of this session alone.
- `cluster` (mark `cluster`): a cluster with a node, Prometheus, fake GPUs and kwok. A healthy one
  called `r1-test` is used and left as it is; one that this session boots is taken away at its
  end, unless `R1_KEEP_CLUSTER=1`. All xdist workers share it.

`R1_USE_KUBECONFIG=1` with `KUBECONFIG` set makes both the given cluster instead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from r1_cluster import providers
from r1_cluster.control_plane.controlplane import ControlPlane, control_plane
from r1_common.cache_folder import cache_root
from r1_common.file_lock import exclusive

# A busy machine is no fault of the code: an example may take as long as a hang.
hypothesis.settings.register_profile("r1", deadline=None)
hypothesis.settings.load_profile("r1")

TEST_CLUSTER = "r1-test"


def booted_note(session: str) -> Path:
    """Return the file that says that the pytest run called `session` booted the cluster."""
    return cache_root() / "locks" / f"booted-by-{session}"


@pytest.fixture(scope="session")
def local_control_plane() -> Iterator[ControlPlane]:
    """An etcd and kube-apiserver of this session, with its audit log."""
    with control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest) -> Path:
    """Return the kubeconfig (a file) of a real API server; it may have no nodes."""
    given = providers.given_kubeconfig()
    if given is not None:
        return given
    running: ControlPlane = request.getfixturevalue("local_control_plane")
    return running.kubeconfig


@pytest.fixture(scope="session")
def cluster() -> providers.Cluster:
    """Return a real cluster with at least one node; see the module's docstring."""
    with exclusive(cache_root() / "locks" / "pytest-cluster.lock"):
        running = providers.find(TEST_CLUSTER)
        if running is None:
            running = providers.obtain(TEST_CLUSTER, kwok=True)
            booted_note(_session()).touch()
        return running


def _session() -> str:
    # xdist names the run for its workers; alone, the run is this process.
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the cluster away if this run booted it; only the run's first process does."""
    if hasattr(session.config, "workerinput"):
        return
    run = getattr(session.config, "_r1_run", None) or _session()
    note = booted_note(run)
    if not note.exists():
        return
    note.unlink()
    if os.environ.get("R1_KEEP_CLUSTER") != "1":
        providers.release(TEST_CLUSTER)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Note xdist's name of this run (a hook of xdist, called in the first process)."""
    worker_input = node.workerinput  # type: ignore[attr-defined]
    node.config._r1_run = worker_input["testrunuid"]  # type: ignore[attr-defined]


def close_stray_loop() -> None:
    """Close the thread's event loop if it is not running.

    looptime and pytest-asyncio ask for an event loop around every test, also one that is not
    async; asyncio then makes one that nobody closes, and warnings are errors here.
    """
    policy = asyncio.get_event_loop_policy()
    stray = getattr(getattr(policy, "_local", None), "_loop", None)
    if stray is not None and not stray.is_running() and not stray.is_closed():
        stray.close()
        policy.set_event_loop(None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Runs right around the test's own function, inside looptime's."""
    synchronous = pyfuncitem.get_closest_marker("asyncio") is None
    if synchronous:
        close_stray_loop()
    try:
        return (yield)
    finally:
        if synchronous:
            close_stray_loop()
