"""What every test may ask for: a real API server, or a whole cluster.

- `apiserver` (mark `apiserver`): kubeconfig of an etcd and kube-apiserver of this session alone.

`R1_USE_KUBECONFIG=1` with `KUBECONFIG` set makes it the given cluster instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1_cluster.controlplane import ControlPlane, control_plane


def given_kubeconfig() -> Path | None:
    """Return the kubeconfig of a cluster that the user wants the tests to run on."""
    if os.environ.get("R1_USE_KUBECONFIG") != "1":
        return None
    path = os.environ.get("KUBECONFIG", "")
    if not Path(path).is_file():
        pytest.exit("R1_USE_KUBECONFIG=1 needs KUBECONFIG to name one file that exists", 2)
    return Path(path)


@pytest.fixture(scope="session")
def local_control_plane() -> Iterator[ControlPlane]:
    """An etcd and kube-apiserver of this session, with its audit log."""
    with control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest) -> Path:
    """Return the kubeconfig (a file) of a real API server; it may have no nodes."""
    given = given_kubeconfig()
    if given is not None:
        return given
    running: ControlPlane = request.getfixturevalue("local_control_plane")
    return running.kubeconfig
