"""What the stage asks of chart and machine, without a cluster."""

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
from r1_demo import manifests
from r1_demo.arrivals import Curve
from r1_demo.bundled_trace import servegen_m_small
from r1_demo.cluster_setup import build_values
from r1_demo.installation import chart, merged, with_libraries
from r1_demo.observation import Observer, OutcomeFile
from r1_demo.runner import UTILIZATION, cpu_limit, has_history, initial_replicas, peak_rate
from r1_demo.schedule import LoadSchedule
from r1_evaluation.traces.load import RateTrace, RecordedRequest, RequestTrace

LOCAL = LocalCluster(ClusterSettings(name="demo", index=3), init_pid=1)
GIVEN = GivenCluster(Path("/nowhere"))


@pytest.mark.parametrize("season", [None, 600.0])
@pytest.mark.parametrize("cluster", [LOCAL, GIVEN], ids=["local", "given"])
def test_the_chart_takes_our_values(cluster: Cluster, season: float | None) -> None:
    values = build_values(cluster, season)
    schema = json.loads((chart() / "values.schema.json").read_text())
    # The schema speaks of whole values: the chart's own under ours, as helm merges them.
    import yaml

    whole = merged(yaml.safe_load((chart() / "values.yaml").read_text()), values)
    jsonschema.validate(whole, schema)
    assert values["forecaster"]["enabled"] is (season is not None and cluster is LOCAL)


def test_thin_images_take_their_libraries_from_the_node() -> None:
    resource = with_libraries(LOCAL, {"spec": {}})
    assert ("template" in resource["spec"]) is (sys.version_info[:2] == (3, 11))
    assert "template" not in with_libraries(GIVEN, {"spec": {}})["spec"]


def test_at_the_peak_the_chat_needs_all_its_replicas_and_no_more() -> None:
    capacity = 2.5
    chat = peak_rate(capacity) * manifests.share_of(manifests.CHAT)
    most = manifests.MAX_REPLICAS[manifests.CHAT]
    assert most - 1 < chat / (UTILIZATION * capacity) <= most
    notes = peak_rate(capacity) * manifests.share_of(manifests.NOTES)
    assert 1 < notes / (UTILIZATION * capacity) <= manifests.MAX_REPLICAS[manifests.NOTES]


def test_the_play_begins_with_what_its_first_seconds_need() -> None:
    live = Curve(5.0, (10.0, 1.0), (True, True))
    schedule = LoadSchedule("t", "", 144.0, None, None, live, 0.0, ())
    # 7 requests/s of chat at 70 % of 2.5 each need 4; 3 of notes need 2.
    assert initial_replicas(schedule, 2.5) == {manifests.CHAT: 4, manifests.NOTES: 2}
    assert initial_replicas(schedule, 100.0) == {manifests.CHAT: 1, manifests.NOTES: 1}
    assert initial_replicas(schedule, 0.1) == manifests.MAX_REPLICAS


@pytest.mark.parametrize(("cores", "limit"), [(1, "400m"), (2, "400m"), (4, "520m"), (64, "1000m")])
def test_six_replicas_leave_room_on_any_machine(cores: int, limit: str) -> None:
    assert cpu_limit(cores) == limit


def test_only_days_are_a_past() -> None:
    assert has_history(servegen_m_small())
    assert not has_history(RateTrace("hour", 60.0, (1.0,) * 60))
    assert not has_history(RequestTrace("azure", (RecordedRequest(0.0, 1, 1),)))


class _Answers(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        known = self.answers.get(self.path)
        self.send_response(200 if known is not None else 503)
        self.end_headers()
        self.wfile.write(json.dumps(known if known is not None else {"error": "standby"}).encode())

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


def test_the_last_decision_stays_while_the_operator_is_away(system: str) -> None:
    route = {"readyEndpoints": 2, "queued": {}, "inFlight": {}, "oldestWaitSeconds": {}}
    decision = {"replicas": 2, "reason": "WithinTarget", "message": "2: ..."}
    _Answers.answers = {
        "/signals": {"routes": {"default/demo-chat": route}},
        "/decisions/default/demo-chat": {"decisions": [{"replicas": 1}, decision]},
    }
    observer = Observer(
        f"{system}/signals", f"{system}/decisions", "default", ("demo-chat", "demo-notes")
    )
    seen = observer.observe(1.0).resources
    assert (seen["demo-chat"].desired, seen["demo-chat"].ready) == (2, 2)
    assert (seen["demo-notes"].desired, seen["demo-notes"].ready) == (None, None)
    _Answers.answers = {}
    seen = observer.observe(2.0).resources
    assert (seen["demo-chat"].desired, seen["demo-chat"].ready) == (2, None)


def test_results_that_are_not_there_yet_are_none(tmp_path: Path) -> None:
    results = OutcomeFile(tmp_path / "results.jsonl")
    results.poll()
    assert results.outcomes == []
