"""A server whose model is divided over processes: same answers, drain, lost ranks, refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from r1_runtime.training.random_model import write_random_model
from runtime_process import Server, started, until_ready

GREEDY = {
    "model": "tiny",
    "prompt": ["hello", "The scheduler puts it on a node."],
    "max_tokens": 12,
    "temperature": 0,
    "ignore_eos": True,
    "logprobs": 2,
}
SAMPLED = GREEDY | {"temperature": 1.0, "seed": 5}
ENDLESS = GREEDY | {"prompt": "hello", "max_tokens": 1900}
TWO = ("--tensor-parallel-size", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("divided-model")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def divided(model: Path, logs: Path) -> Iterator[Server]:
    with started(model, logs / "divided", *TWO) as running:
        asyncio.run(until_ready(running))
        yield running


def children(process: int) -> list[int]:
    """Processes that any thread of a process has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(word) for each in lists for word in each.read_text().split()]


async def complete(server: Server, body: object) -> Any:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.post("/v1/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_divided_model_answers_like_one_process(
    model: Path, logs: Path, divided: Server
) -> None:
    with started(model, logs / "alone", "--backend", "reference", "--device", "cpu") as alone:
        await until_ready(alone)
        for body in (GREEDY, SAMPLED):
            ours, theirs = await complete(divided, body), await complete(alone, body)
            for one, other in zip(ours["choices"], theirs["choices"], strict=True):
                assert one["text"] == other["text"]
                pairs = zip(
                    one["logprobs"]["token_logprobs"],
                    other["logprobs"]["token_logprobs"],
                    strict=True,
                )
                assert all(abs(a - b) < 1e-4 for a, b in pairs)
    text = (logs / "divided").read_text()
    assert "Only the reference backend divides a model over ranks" in text


async def test_a_drain_ends_all_processes_with_code_0(model: Path, logs: Path) -> None:
    with started(model, logs / "drained", *TWO) as server:
        await until_ready(server)
        (rank,) = children(server.process.pid)
        request = asyncio.create_task(complete(server, GREEDY))
        await asyncio.sleep(0.2)
        os.kill(rank, signal.SIGTERM)  # as a terminal or a container runtime may do
        server.terminate()
        assert len((await request)["choices"]) == 2
        assert await asyncio.to_thread(server.process.wait, 60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(rank, 0)
    assert "Traceback" not in (logs / "drained").read_text()


@pytest.mark.parametrize("busy", [True, False], ids=["while decoding", "while idle"])
async def test_a_killed_rank_ends_the_server_with_code_1_and_a_message(
    model: Path, logs: Path, busy: bool
) -> None:
    log = logs / f"killed-{busy}"
    with started(model, log, *TWO) as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            answer = asyncio.create_task(http.post("/v1/completions", json=ENDLESS))
            if busy:
                await asyncio.sleep(0.5)
            else:
                answer.cancel()
            (rank,) = children(server.process.pid)
            begun = time.monotonic()
            os.kill(rank, signal.SIGKILL)
            if busy:
                assert (await answer).status in (500, 503)
            assert await asyncio.to_thread(server.process.wait, 15) == 1
            assert time.monotonic() - begun < 15
    text = log.read_text()
    assert "RankLostError: ranks: rank 1 of 2 is lost" in text
    assert "killed by signal 9" in text


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("--tensor-parallel-size", "3"), {}, "does not divide the model's"),
        (("--tensor-parallel-size", "2", "--backend", "cpu"), {}, "--backend cpu computes"),
        (("--pipeline-parallel-size", "9"), {}, "the model has 2 layers"),
        ((), {"LWS_GROUP_SIZE": "2"}, "LWS_LEADER_ADDRESS is missing"),
    ],
)
def test_a_division_that_cannot_work_ends_the_start_with_code_2(
    model: Path, logs: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    log = logs / "refused"
    with started(model, log, *arguments, "--device", "cpu", environment=environment) as server:
        assert server.process.wait(120) == 2
    assert words in log.read_text()
    assert "Traceback" not in log.read_text()


def pod_variables(index: int) -> dict[str, str]:
    group = {"LWS_LEADER_ADDRESS": "localhost", "LWS_GROUP_SIZE": "2"}
    return group | {"LWS_WORKER_INDEX": str(index), "GLOO_SOCKET_IFNAME": "lo"}


def test_a_refusal_of_the_first_pod_ends_the_other_pod_with_its_message(
    model: Path, logs: Path
) -> None:
    """Both pods have two ranks; only the first one compares the options with the model."""
    command = ("--device", "cpu", "--speculation", "mtp", "--tensor-parallel-size", "2")
    with (
        started(model, logs / "waiting", *command, environment=pod_variables(1)) as second,
        started(model, logs / "refusing", *command, environment=pod_variables(0)) as first,
    ):
        assert first.process.wait(180) == 2  # once the other pod has imported torch
        assert second.process.wait(60) == 2
    refusing, waiting = (logs / "refusing").read_text(), (logs / "waiting").read_text()
    refusal = next(line for line in refusing.splitlines() if line.startswith("OptionError: "))
    assert "--speculation mtp needs a model in one process" in refusal
    assert f"StartRefusedError: rank 0 does not start: {refusal}" in waiting
    assert "Traceback" not in refusing + waiting


async def test_two_pods_of_a_leader_worker_set_serve_one_model(model: Path, logs: Path) -> None:
    """Both pods run the same command line; here they are two processes of one machine."""
    with (
        started(model, logs / "pod-1", "--device", "cpu", environment=pod_variables(1)) as second,
        started(model, logs / "pod-0", "--device", "cpu", environment=pod_variables(0)) as first,
    ):
        await until_ready(first)
        assert len((await complete(first, GREEDY))["choices"]) == 2
        second.terminate()  # the group's end: the first pod drains, and needs the second
        first.terminate()
        assert await asyncio.to_thread(first.process.wait, 60) == 0
        assert await asyncio.to_thread(second.process.wait, 60) == 0
    assert "Traceback" not in (logs / "pod-0").read_text() + (logs / "pod-1").read_text()
