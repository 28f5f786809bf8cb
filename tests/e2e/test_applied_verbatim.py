"""The manifest of the README, verbatim, on nodes that simulate GPUs: the first minute.

kwok reports the pods as ready without running them. `test_verbatim_under_load.py` tests scaling; it
runs last, because the default window is five minutes.
"""

from __future__ import annotations

import pytest

from e2e_helpers import verbatim_pods, wait_for
from r1_demo.setup.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_readme_manifest_starts_four_pods_with_one_gpu_each(simulated: Installation) -> None:
    wait_for("four pods run", 90, lambda: len(
        [pod for pod in verbatim_pods(simulated) if pod["status"]["phase"] == "Running"]) == 4)  # fmt: skip
    for pod in verbatim_pods(simulated):
        [engine] = [each for each in pod["spec"]["containers"] if each["name"] == "engine"]
        resources = engine["resources"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"
        assert resources["requests"] == {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}
