"""Chart values, replica bounds and samples of a run, without a cluster."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from r1_cluster.cluster import LocalCluster
from r1_cluster.providers import Cluster, GivenCluster
from r1_cluster.settings import ClusterSettings
from r1_demo.load.arrivals import Curve
from r1_demo.load.bundled_trace import servegen_m_small
from r1_demo.load.schedule import LoadSchedule
from r1_demo.reporting.observation import Observer, OutcomeFile
from r1_demo.runner import UTILIZATION, cpu_limit, has_history, initial_replicas, peak_rate
from r1_demo.setup import manifests
from r1_demo.setup.cluster_setup import build_values
from r1_demo.setup.installation import chart, merged, with_libraries
from r1_evaluation.traces.load import RateTrace, RecordedRequest, RequestTrace

LOCAL = LocalCluster(ClusterSettings(name="demo", index=3), init_pid=1)
GIVEN = GivenCluster(Path("/nowhere"))


@pytest.mark.parametrize("season", [None, 600.0])
@pytest.mark.parametrize("cluster", [LOCAL, GIVEN], ids=["local", "given"])
def test_chart_values_of_the_demo_match_the_schema(cluster: Cluster, season: float | None) -> None:
    values = build_values(cluster, season)
    schema = json.loads((chart() / "values.schema.json").read_text())
    # The schema describes merged values: the chart's defaults under the demo's, as helm merges them.
    import yaml

    whole = merged(yaml.safe_load((chart() / "values.yaml").read_text()), values)
    jsonschema.validate(whole, schema)
    assert values["forecaster"]["enabled"] is (season is not None and cluster is LOCAL)


def test_pods_of_thin_images_mount_libraries_from_the_node() -> None:
    resource = with_libraries(LOCAL, {"spec": {}})
    assert ("template" in resource["spec"]) is (sys.version_info[:2] == (3, 11))
    assert "template" not in with_libraries(GIVEN, {"spec": {}})["spec"]


def test_the_peak_needs_the_maximum_of_replicas() -> None:
    capacity = 2.5
    chat = peak_rate(capacity) * manifests.share_of(manifests.CHAT)
    most = manifests.MAX_REPLICAS[manifests.CHAT]
    assert most - 1 < chat / (UTILIZATION * capacity) <= most
    notes = peak_rate(capacity) * manifests.share_of(manifests.NOTES)
    assert 1 < notes / (UTILIZATION * capacity) <= manifests.MAX_REPLICAS[manifests.NOTES]


def test_initial_replicas_follow_the_first_rate_within_the_bounds() -> None:
    live = Curve(5.0, (10.0, 1.0), (True, True))
    schedule = LoadSchedule("t", "", 144.0, None, None, live, 0.0, ())
    # 8.5 requests/s of chat at 70 % of 2.5 each need 5; 1.5 of notes need 1.
    assert initial_replicas(schedule, 2.5) == {manifests.CHAT: 5, manifests.NOTES: 1}
    assert initial_replicas(schedule, 100.0) == manifests.MIN_REPLICAS
    assert initial_replicas(schedule, 0.1) == manifests.MAX_REPLICAS


@pytest.mark.parametrize(("cores", "limit"), [(1, "400m"), (2, "400m"), (4, "520m"), (64, "1000m")])
def test_the_cpu_limit_grows_with_the_cores_up_to_one(cores: int, limit: str) -> None:
    assert cpu_limit(cores) == limit


def test_only_traces_of_three_days_have_a_history() -> None:
    assert has_history(servegen_m_small())
    assert not has_history(RateTrace("hour", 60.0, (1.0,) * 60))
    assert not has_history(RequestTrace("azure", (RecordedRequest(0.0, 1, 1),)))


class _Answers(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        response = self.answers.get(self.path)
        self.send_response(200 if response is not None else 503)
        self.end_headers()
        self.wfile.write(
            json.dumps(response if response is not None else {"error": "standby"}).encode()
        )

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent."""


@pytest.fixture
def system() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_last_decision_stays_while_the_operator_does_not_respond(system: str) -> None:
    route = {"readyEndpoints": 2, "queued": {}, "inFlight": {}, "oldestWaitSeconds": {}}
    decision = {"replicas": 2, "reason": "WithinTarget", "message": "2: ..."}
    _Answers.answers = {
        "/signals": {"routes": {"default/demo-chat": route}},
        "/decisions/default/demo-chat": {"decisions": [{"replicas": 1}, decision]},
    }
    observer = Observer(
        f"{system}/signals", f"{system}/decisions", "default", ("demo-chat", "demo-notes")
    )
    resources = observer.observe(1.0).resources
    assert (resources["demo-chat"].desired, resources["demo-chat"].ready) == (2, 2)
    assert (resources["demo-notes"].desired, resources["demo-notes"].ready) == (None, None)
    _Answers.answers = {}
    resources = observer.observe(2.0).resources
    assert (resources["demo-chat"].desired, resources["demo-chat"].ready) == (2, None)


def test_a_missing_outcome_file_has_no_outcomes(tmp_path: Path) -> None:
    results = OutcomeFile(tmp_path / "results.jsonl")
    results.poll()
    assert results.outcomes == []
