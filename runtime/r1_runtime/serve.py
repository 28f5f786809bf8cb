"""`python -m r1_runtime.serve`: listen at once, load behind the open door, drain on SIGTERM.

Exit codes: 0 after a drain, 2 for what the user can mend (one line on stderr, and in the
container's termination message), 1 for a fault of ours.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from r1_common.listen import host_port
from r1_runtime.errors import OptionError, RuntimeFault
from r1_runtime.server.options import ServeOptions, parse_options


def _seconds_since_start() -> float:
    """The process's age in seconds; 0 where /proc is missing."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


# The interpreter's own start: the age now, less what this module has taken since.
_PYTHON_SECONDS = max(0.0, _seconds_since_start() - (time.perf_counter() - _BEGUN))
TERMINATION_LOG = Path("/dev/termination-log")
_ABORT_SECONDS = 5  # for the errors of aborted requests to be sent
_STEP_SECONDS = 5  # for the engine to end the step it is in
_log = logging.getLogger("r1_runtime")


async def serve(options: ServeOptions) -> None:
    """Serve until a signal, then drain.

    Raises:
        RuntimeFault: the port is taken, or the model does not load.
    """
    from aiohttp import web

    from r1_common import listen
    from r1_runtime.server.app import build_app
    from r1_runtime.server.framing import JsonErrorRunner
    from r1_runtime.server.loading import Phases, load
    from r1_runtime.server.metrics import RuntimeMetrics
    from r1_runtime.server.service import Service

    phases = Phases({"python": round(_PYTHON_SECONDS, 3)}, _BEGUN)
    service = Service(options.names, RuntimeMetrics(options.names[0]))
    # Without an access log: at this rate it would be most of the output.
    runner = JsonErrorRunner(
        build_app(service), handler_cancellation=True, access_log=None, shutdown_timeout=5
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
    _log.info("listening on %s, loading %s", _addresses(runner), options.model_path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    try:
        loading = asyncio.create_task(asyncio.to_thread(load, options, service.deliver, phases))
        await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            _log.info("stopped while loading")
            _leave()
        loaded = loading.result()
        service.open(loaded.engine, loaded.tokenizer, loaded.limits, loaded.defaults)
        _log.info("ready: %s; start-up seconds: %s", loaded.description, phases.line())
        await stopped
        await _drain(service, options.drain_seconds)
        if not await service.stop(_STEP_SECONDS):
            _log.warning("stopped in the middle of a step")
    finally:
        stopped.cancel()
        await runner.cleanup()
    _leave()


def _leave() -> None:
    """Exit with code 0 now, whatever the threads that load, tokenise or compute are doing.

    They cannot be interrupted, and no request waits for them any more.
    """
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)


async def _drain(service: object, seconds: float) -> None:
    from r1_runtime.server.service import Service

    assert isinstance(service, Service)  # noqa: S101
    service.begin_drain()
    _log.info("draining: %d requests in flight, at most %g s", service.in_flight, seconds)
    try:
        await asyncio.wait_for(service.drained(), seconds)
    except TimeoutError:
        _log.warning("%d requests did not end in %g s: aborted", service.in_flight, seconds)
        service.abort_all()
        with suppress(TimeoutError):  # of clients that do not read their error
            await asyncio.wait_for(service.drained(), _ABORT_SECONDS)
    _log.info("drained")


def _addresses(runner: object) -> str:
    return ", ".join(host_port(*address[:2]) for address in runner.addresses)  # type: ignore[attr-defined]


def report(error: RuntimeFault, termination_log: Path = TERMINATION_LOG) -> None:
    """One line on stderr, and as the container's termination message where there is one."""
    line = f"{type(error).__name__}: {error}"
    sys.stderr.write(line + "\n")
    if termination_log.exists() and os.access(termination_log, os.W_OK):
        termination_log.write_text(line + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # Until the event loop handles it: as process 1 of a container there is no default action.
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    try:
        asyncio.run(serve(parse_options(arguments)))
    except RuntimeFault as error:
        report(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
