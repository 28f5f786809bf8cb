"""The wall clock of a gateway process is set while it serves; the operator's client reads its signals."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.demand import Demand
from r1_operator.sources.gateways import GatewayDirectory
from r1_operator.sources.signals import GatewaySignals
from scripted_pod import ScriptedPod

NewPod = Callable[..., Awaitable[ScriptedPod]]
STEPPED = """
import pathlib, runpy, sys, time
real, file = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: real() + float(file.read_text())
runpy.run_module("r1_gateway", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("by", [-600.0, 365 * 86_400.0])
async def test_demand_reads_on_while_the_clock_of_the_gateway_process_is_set(
    tmp_path: Path, new_pod: NewPod, by: float
) -> None:
    pod = await new_pod()
    config, offset = tmp_path / "routes.json", tmp_path / "offset"
    route = {"namespace": "default", "name": "m", "seatsPerReplica": 4, "endpoints": [pod.address]}
    config.write_text(json.dumps({"routes": [route]}))
    offset.write_text("0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STEPPED, str(offset), "--config", str(config), "--port=0",
        "--admin-port=0", "--host=127.0.0.1", "--admin-host=127.0.0.1",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"serving on port" not in (line := await process.stderr.readline()):
                assert line, "the gateway ended"
        words = line.decode().replace(",", "").split()
        port, admin = int(words[-5]), int(words[-1])
        urls = (f"http://127.0.0.1:{admin}",)
        signals, counters = GatewaySignals(GatewayDirectory(None, urls=urls)), CounterStore()
        dates: list[float] = []
        began = asyncio.get_running_loop().time()
        async with aiohttp.ClientSession() as session:
            for number in range(40):
                if number == 20:
                    offset.write_text(str(by))
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                async with session.post(url, json={"model": "m"}) as response:
                    assert response.status == 200
                    await response.read()
                reading = await signals.read()
                assert not reading.silent
                (sample,) = reading.routes["default/m"]
                counters.observe(sample)
                dates.append(sample.at)
                await asyncio.sleep(0.2)
        lasted = asyncio.get_running_loop().time() - began
        demand = counters.demand(sample.received_at, reading.gateways)
        await signals.close()
    finally:
        process.kill()
        await process.communicate()
    assert abs(dates[-1] - dates[0]) > 500, "its clock was set"
    assert isinstance(demand, Demand)
    assert not isinstance(demand.requests_per_second, Unavailable)
    # Of the gateway's whole life, which began a moment before the first request.
    assert 0.4 * 40 / lasted < demand.requests_per_second < 2.0 * 40 / lasted
