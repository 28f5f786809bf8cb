"""A gateway process in front of the pods of a test."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


@asynccontextmanager
async def gateway_process(
    folder: Path, *pods: str, flags: Sequence[str] = (), output: Path | None = None, **route: Any
) -> AsyncIterator[tuple[int, int]]:
    """Run a gateway with one route ``m`` to the pods' addresses; yields its port and admin port.

    ``flags`` are added to its command line; ``output`` gets its standard output.
    """
    entry = {
        "namespace": "default",
        "name": "m",
        "seatsPerReplica": 4,
        "endpoints": list(pods),
        **route,
    }
    config = folder / "routes.json"
    config.write_text(json.dumps({"routes": [entry]}))
    sink = output.open("wb") if output is not None else None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "r1_gateway", "--config", str(config), "--port=0", "--admin-port=0",
        "--host=127.0.0.1", "--admin-host=127.0.0.1", "--linger-seconds=0", "--drain-seconds=0",
        *flags, stdout=sink, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"serving on port" not in (line := await process.stderr.readline()):
                assert line, "the gateway ended"
        words = line.decode().replace(",", "").split()
        yield int(words[-5]), int(words[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        if sink is not None:
            sink.close()
