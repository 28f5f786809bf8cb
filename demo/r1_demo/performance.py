"""One performance: stage, measure, play, observe, tell."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from r1_cluster.backfill import prometheus_backfill
from r1_cluster.cluster import LocalCluster
from r1_cluster.errors import ClusterError
from r1_demo import manifests
from r1_demo.arrivals import Caps
from r1_demo.calibration import measure_capacity
from r1_demo.installation import with_libraries
from r1_demo.load_generator import write_schedule
from r1_demo.observation import Moment, Observer, Results
from r1_demo.options import DemoOptions
from r1_demo.past import openmetrics
from r1_demo.program import DAY, FEWEST_DAYS, Program, arrange
from r1_demo.recorded import servegen_m_small
from r1_demo.report import Setting, Telling, measured_start, show, tell, to_json, write
from r1_demo.screen import Show, screen
from r1_demo.stage import Stage, build_values, cluster_of, stage_on
from r1_evaluation.traces.load import RateTrace, Trace
from r1_evaluation.traces.readers import read_trace

UTILIZATION = 0.7
SEATS = 4
CPU_REQUEST, MEMORY = "100m", "512Mi"
CAPS = Caps()
CALIBRATION_SECONDS = 10.0
DOWN_WINDOW_SHARE = 0.05  # of the day: 72 minutes of the trace, 30 s of a day in ten minutes
LINGER_SECONDS = 45.0


def perform(options: DemoOptions, console: Console) -> None:
    """Play the demonstration from beginning to end. Raises what any part of it raises."""

    def report(text: str) -> None:
        console.print(f"· {text}", style="dim", highlight=False)

    trace = (
        servegen_m_small() if options.trace is None else read_trace(options.trace, options.series)
    )
    season = options.duration if options.forecast and has_past(trace) else None
    with (
        cluster_of(options.cluster, options.keep, report) as cluster,
        stage_on(cluster, build_values(cluster, season), options.keep, report) as stage,
        tempfile.TemporaryDirectory(prefix="r1-demo-") as scratch,
    ):
        capacity = _settle(stage, options, report)
        program = arrange(
            trace,
            options.duration,
            options.lead_in,
            peak_of(capacity),
            manifests.SHARES,
            CAPS,
            options.seed,
        )
        _announce(program, capacity, report)
        _fill(stage, program, capacity, options, report)
        moments, results = _play(
            stage, program, Path(scratch), capacity, season, options, console, report
        )
        telling = _tell(program, capacity, options, moments, results)
    document, image = write(telling, options.out)
    if options.json:
        print(json.dumps(to_json(telling), allow_nan=False))
    else:
        show(console, telling)
        console.print(f"{image} and {document}", highlight=False)


def has_past(trace: Trace) -> bool:
    """Return whether a trace has days before its last to learn from."""
    return isinstance(trace, RateTrace) and trace.seconds >= FEWEST_DAYS * DAY


def cpu_limit(cores: int) -> str:
    """Return a replica's CPU limit: six of them must leave room for everything else.

    Without one, a single replica would take the whole machine, and more would add nothing.
    """
    return f"{round(1000 * min(1.0, max(0.4, 0.13 * cores)))}m"


def peak_of(capacity: float) -> float:
    """Return the rate of all requests at which the chat just needs all its replicas."""
    chat = UTILIZATION * capacity * manifests.MAX_REPLICAS[manifests.CHAT] * 0.98
    return chat / manifests.share_of(manifests.CHAT)


def down_window(duration: float) -> float:
    """Return the scale-down window: a small part of the day, and not a blink of the eye."""
    return max(15.0, duration * DOWN_WINDOW_SHARE)


def first_counts(program: Program, capacity: float) -> dict[str, int]:
    """Return the replicas each resource needs in the first seconds of the play."""
    counts = {}
    for name in (manifests.CHAT, manifests.NOTES):
        rate = program.live.rates[0] * manifests.share_of(name)
        needed = math.ceil(rate / (UTILIZATION * capacity))
        counts[name] = min(max(1, needed), manifests.MAX_REPLICAS[name])
    return counts


def _resources(
    stage: Stage,
    capacity: float,
    season: float | None,
    duration: float,
    least: Mapping[str, int] | None = None,
) -> None:
    documents = []
    for name in (manifests.CHAT, manifests.NOTES):
        resource = manifests.build_resource(
            name,
            capacity,
            down_window(duration),
            season,
            min_replicas=1 if least is None else least[name],
            seats=SEATS,
            cpu_request=CPU_REQUEST,
            cpu_limit=cpu_limit(os.cpu_count() or 1),
            memory=MEMORY,
        )
        documents.append(with_libraries(stage.cluster, resource))
    stage.apply(documents)


def _settle(stage: Stage, options: DemoOptions, report: Callable[[str], None]) -> float:
    """Bring both resources up, and return what one replica takes (requests/s)."""
    report("two R1Inferences of the bundled demo model: demo-chat with classes, demo-notes")
    # While it is measured nothing may scale: the target is out of reach.
    _resources(stage, options.capacity or 1e6, None, options.duration)
    for name in (manifests.CHAT, manifests.NOTES):
        stage.wait_ready(name, manifests.NAMESPACE)
    capacity = options.capacity
    if capacity is None:
        report(f"measuring for {CALIBRATION_SECONDS:.0f} s what one replica takes")
        capacity = round(
            measure_capacity(stage.gateway_url, manifests.CHAT, SEATS, CALIBRATION_SECONDS, CAPS),
            2,
        )
    return capacity


def _fill(
    stage: Stage,
    program: Program,
    capacity: float,
    options: DemoOptions,
    report: Callable[[str], None],
) -> None:
    """Begin with the replicas that a service in mid-day has."""
    counts = first_counts(program, capacity)
    report("the day begins in mid-day: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    _resources(stage, capacity, None, options.duration, counts)
    for name, count in counts.items():
        stage.wait_replicas(name, manifests.NAMESPACE, count)


def hold_seconds(program: Program) -> float:
    """Return for how long the first replicas stay: rates are means of a minute, empty at first."""
    return max(program.lead_in, 60.0)


def _announce(program: Program, capacity: float, report: Callable[[str], None]) -> None:
    report(f"{program.name}: {program.source or 'a file of yours'}")
    report(
        f"{len(program.arrivals)} requests in {program.seconds:.0f} s, up to "
        f"{max(program.live.rates):.1f}/s; a replica takes {capacity:.2f}/s"
    )
    report(
        f"time runs {program.compression:.0f} times faster: a start of 10 s weighs like "
        f"{program.speaks(10)}"
    )
    if program.history is None:
        report("the trace is shorter than three days: there is no past to learn a forecast from")
    else:
        days = program.history.seconds * program.compression / DAY
        report(
            f"{days:.1f} days go into Prometheus as the past; the {program.lead_in:.0f} s before "
            "the day are played live while the forecaster trains"
        )


def _play(
    stage: Stage,
    program: Program,
    scratch: Path,
    capacity: float,
    season: float | None,
    options: DemoOptions,
    console: Console,
    report: Callable[[str], None],
) -> tuple[list[Moment], Results]:
    schedule, results = scratch / "schedule.jsonl", Results(scratch / "results.jsonl")
    write_schedule(schedule, program.arrivals)
    starts_at = time.time() + 2.0  # the load generator is another process
    begins = time.monotonic() + 2.0
    over = threading.Event()

    def prepare() -> None:
        """The past first, then the forecast that learns from it, then the replicas may go."""
        try:
            _lay_past(stage, program, scratch, starts_at, season, options.seed, report)
            counts = first_counts(program, capacity)
            _resources(stage, capacity, season, options.duration, counts)
            if not over.wait(max(0.0, begins + hold_seconds(program) - time.monotonic())):
                _resources(stage, capacity, season, options.duration)
        except ClusterError as error:
            report(f"the policy could not be changed: {error}")

    stagehand = threading.Thread(target=prepare)
    generator = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "r1_demo.load_generator",
            f"--url={stage.gateway_url}",
            f"--schedule={schedule}",
            f"--results={results.path}",
            f"--starts-at={starts_at}",
        ],
        env=os.environ | {"NO_PROXY": "*", "no_proxy": "*"},
        start_new_session=True,  # Ctrl-C is for us; we end it
    )
    observer = Observer(
        stage.signals_url,
        stage.decisions_url,
        manifests.NAMESPACE,
        (manifests.CHAT, manifests.NOTES),
    )
    stagehand.start()
    try:
        with screen(console, program) as display:
            moments = _watch(observer, results, program, begins, generator, display)
    finally:
        generator.terminate()
        generator.wait()
        over.set()
        stagehand.join()
    results.poll()
    return moments, results


def _watch(
    observer: Observer,
    results: Results,
    program: Program,
    begins: float,
    generator: subprocess.Popen[bytes],
    display: Show,
) -> list[Moment]:
    """Look once a second until the load has been sent and answered.

    It begins at `begins` on the monotonic clock.
    """
    moments: list[Moment] = []
    while True:
        at = time.monotonic() - begins
        moment = observer.look(at, decisions=len(moments) % 2 == 0)
        results.poll()
        if 0 <= at <= program.seconds:
            moments.append(moment)
        display(moment, results.recent(at - 60))
        ended = generator.poll() is not None
        if ended and at < program.seconds - 5:
            raise ClusterError(
                f"the load generator ended early, with status {generator.returncode}"
            )
        if ended or at > program.seconds + LINGER_SECONDS:
            return moments
        time.sleep(max(0.05, 1.0 - (time.monotonic() - begins - at)))


def _lay_past(
    stage: Stage,
    program: Program,
    scratch: Path,
    ends_at: float,
    season: float | None,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Write the history into Prometheus; without one, scaling goes by real time and says so."""
    if program.history is None or season is None:
        return
    if not isinstance(stage.cluster, LocalCluster):
        report("no Prometheus of ours on this cluster: no past, and no forecast")
        return
    path = scratch / "past.txt"
    every = max(0.5, manifests.forecast_step(season) / 4)
    lines = openmetrics(
        program.history, manifests.SHARES, manifests.NAMESPACE, ends_at, every, seed + 1
    )
    path.write_text("\n".join(lines) + "\n")
    try:
        prometheus_backfill(stage.cluster, path)
    except ClusterError as error:
        report(f"the past could not be written, scaling goes by real time: {error}")


def _tell(
    program: Program, capacity: float, options: DemoOptions, moments: list[Moment], results: Results
) -> Telling:
    names = (manifests.CHAT, manifests.NOTES)
    settings = [
        Setting(
            name,
            capacity,
            UTILIZATION,
            1,
            manifests.MAX_REPLICAS[name],
            down_window(options.duration),
            first_counts(program, capacity)[name],
            hold_seconds(program),
        )
        for name in names
    ]
    speakers = [seen.forecast for m in moments[-1:] for seen in m.resources.values()]
    return tell(
        program,
        settings,
        moments,
        results.outcomes,
        measured_start(moments, names),
        next((text for text in speakers if text), "no forecast"),
    )
