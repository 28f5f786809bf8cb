"""`python -m r1_runtime.serve`: listen at once, load the model in the background, drain on SIGTERM.

Exit codes: 0 after a drain; 2 for an error that the user can fix (one line on stderr and in the
container's termination message); 1 for a bug, and where another rank of a divided model has ended.
"""

from __future__ import annotations

import time

_STARTED = time.perf_counter()

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1_common.listen import host_port
from r1_runtime.errors import OptionError, RankLostError, RuntimeFault
from r1_runtime.server.options import ServeOptions, parse_options

if TYPE_CHECKING:  # the service is imported once the options are valid
    from r1_runtime.server.service import Service


def _seconds_since_start() -> float:
    """The process's age in seconds; 0 where /proc is missing."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


# Start-up time of the interpreter: the process's age minus the time since this module started.
_PYTHON_SECONDS = max(0.0, _seconds_since_start() - (time.perf_counter() - _STARTED))
# numpy's matrix library starts a thread per core at its import; serving uses its own threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
TERMINATION_LOG = Path("/dev/termination-log")
_ABORT_SECONDS = 5  # to send the errors of aborted requests
_STEP_SECONDS = 5  # for the engine to end its current step
_log = logging.getLogger("r1_runtime")


async def serve(options: ServeOptions) -> None:
    """Serve until a signal, then drain.

    Raises:
        RuntimeFault: the port is taken, or the model does not load.
    """
    from aiohttp import web

    from r1_common import listen
    from r1_runtime.server.app import build_app
    from r1_runtime.server.http_errors import JsonErrorRunner
    from r1_runtime.server.loading import StartupTimes, load
    from r1_runtime.server.metrics import RuntimeMetrics
    from r1_runtime.server.served_model import ServedModel
    from r1_runtime.server.service import Service

    phases = StartupTimes({"python": round(_PYTHON_SECONDS, 3)}, _STARTED)
    service = Service(options.names, RuntimeMetrics(options.names[0]))
    # Without an access log, which would be most of the log.
    runner = JsonErrorRunner(
        build_app(service, options.api_keys),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=5,
    )
    await runner.setup()
    try:
        for each in listen.bind(options.host, options.port):
            await web.SockSite(runner, each, backlog=1024).start()
    except OSError as error:
        await runner.cleanup()
        raise OptionError(
            f"command line: {error.strerror}. Fix: choose another --host or --port."
        ) from error
    phases.end("listen")
    _log.info("Listening on %s; loading %s", _addresses(runner), options.base_model)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    lost: asyncio.Future[None] = loop.create_future()

    def lose(error: RankLostError) -> None:  # in any thread
        loop.call_soon_threadsafe(lost.set_exception, error)

    try:
        loading = asyncio.create_task(
            asyncio.to_thread(load, options, service.deliver, phases, lose)
        )
        await _first(loading, stopped, lost)
        if lost.done():
            lost.result()
        if not loading.done():
            _log.info("Stopped while loading the model")
            _exit_now()
        loaded = loading.result()
        model = ServedModel(loaded.tokenizer, loaded.limits, loaded.defaults, options.parsers)
        service.open(loaded.engine, model, loaded.sleeper)
        _log.info("Ready: %s; start-up seconds: %s", loaded.description, phases.line())
        await _first(stopped, lost)
        if not lost.done():
            drain = asyncio.create_task(_drain(service, options.drain_seconds))
            await _first(drain, lost)
        if lost.done():
            await _abort(service)
            lost.result()
        if not await service.stop(_STEP_SECONDS):
            _log.warning("Stopped before the engine finished its current step")
        await asyncio.to_thread(loaded.close)
    finally:
        stopped.cancel()
        await runner.cleanup()
    _exit_now()


def _exit_now(code: int = 0) -> None:
    """Exit now, without waiting for threads that load, tokenise or compute.

    These threads cannot be interrupted, and no request waits for them.
    """
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _drain(service: Service, seconds: float) -> None:
    service.begin_drain()
    _log.info("Draining: %d requests in flight, at most %g s", service.in_flight, seconds)
    try:
        await asyncio.wait_for(service.drained(), seconds)
    except TimeoutError:
        _log.warning(
            "Aborting %d requests that did not finish within %g s", service.in_flight, seconds
        )
        await _abort(service)
    _log.info("Drained")


async def _abort(service: Service) -> None:
    """Refuse new requests, and end those in flight with an error."""
    service.begin_drain()
    service.abort_all()
    with suppress(TimeoutError):  # clients that do not read their error
        await asyncio.wait_for(service.drained(), _ABORT_SECONDS)


def _addresses(runner: object) -> str:
    return ", ".join(host_port(*address[:2]) for address in runner.addresses)  # type: ignore[attr-defined]


def report(error: RuntimeFault, termination_log: Path = TERMINATION_LOG) -> None:
    """Write one line to stderr and, in a pod, to the container's termination message."""
    line = f"{type(error).__name__}: {error}"
    sys.stderr.write(line + "\n")
    if termination_log.exists() and os.access(termination_log, os.W_OK):
        termination_log.write_text(line + "\n", encoding="utf-8")


def serve_ranks(options: ServeOptions) -> int:
    """Compute the ranks of a further pod of the group; the exit code.

    The first pod schedules and serves HTTP.
    """
    from r1_runtime.backends.parallel.pod import run_pod

    return run_pod(options.group, options.device)


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # Until the event loop handles SIGTERM: process 1 of a container has no default action for it.
    signal.signal(signal.SIGTERM, lambda *_: _exit_now())
    try:
        options = parse_options(arguments)
        if options.explain_plan:
            from r1_runtime.server.loading import explain_plan

            sys.stdout.write(explain_plan(options) + "\n")
            return 0
        if options.group.pod:
            return serve_ranks(options)
        asyncio.run(serve(options))
    except RankLostError as error:
        report(error)
        _exit_now(1)  # threads may wait for the lost rank
    except RuntimeFault as error:
        report(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
