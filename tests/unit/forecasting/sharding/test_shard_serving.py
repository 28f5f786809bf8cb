"""A forecaster as a shard: options, routing, and a changed list of shards."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import generate_latest

from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting import file_watcher
from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.options import parse_options
from r1_forecasting.service.service import ForecastService
from r1_forecasting.sharding.ownership import owner_of, parse_shards
from r1_forecasting.sharding.serving import build_router, open_shard
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TWO = ("r1-forecaster-0", "r1-forecaster-1")
NOWHERE = "http://127.0.0.1:9"
QUESTION: dict[str, Any] = {
    "query": "demand",
    "stepSeconds": 1,
    "seasonSeconds": 60,
    "historySeconds": 420,
    "leadSeconds": 5,
}


class Silence:
    """A Prometheus without data; each requested series still gets a forecaster."""

    def read(self, query: str, step: float, since: float, until: float) -> ForecastUnavailable:
        return ForecastUnavailable(UnavailableReason.NO_DATA, "nobody exports it")


def listed(file: Path, *names: str) -> Path:
    file.write_text(json.dumps(dict.fromkeys(names, NOWHERE)))
    return file


def test_forecaster_without_shard_options_is_single() -> None:
    options = parse_options([])
    assert (options.shards, options.shard) == (None, "")


def test_a_shard_is_named_by_flag_or_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("R1_FORECASTER_SHARD", "r1-forecaster-1")
    options = parse_options(["--shards", str(listed(tmp_path / "shards.json", *TWO))])
    assert options.shard == "r1-forecaster-1"
    assert list(options.shards.content) == list(TWO)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--shard", "r1-forecaster-0"], "set both"),
        (["--shards", "FILE"], "set both"),
        (["--shards", "/no/file", "--shard", "a"], "--shards: /no/file: "),
        (["--shards", "WRONG", "--shard", "a"], "at least one shard"),
    ],
)
def test_single_shard_options_and_invalid_lists_are_refused(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "FILE": str(listed(tmp_path / "shards.json", *TWO)),
        "WRONG": str(listed(tmp_path / "wrong.json")),
    }
    with pytest.raises(SystemExit) as ended:
        parse_options([files.get(each, each) for each in arguments])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


async def test_operator_requests_are_routed_to_the_owner(tmp_path: Path) -> None:
    file = FileWatcher(listed(tmp_path / "shards.json", *TWO), parse_shards)
    service = ForecastService(Silence(), Trainer((), TrainingQueue(0.25)))
    routed = build_router(service, TWO[0], file)
    app = service.application(routed.operator_forecast)
    open_shard(app, service, routed, file)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        reasons = {}
        for number in range(8):
            request = QUESTION | {"series": f"team/model-{number}"}
            async with client.post(server.make_url("/v1/forecast"), json=request) as reply:
                assert reply.status == 200
                body = await reply.json()
            reasons[body["series"]] = body["reason"]
        async with client.get(server.make_url("/metrics")) as reply:
            text = await reply.text()
    here = [name for name in reasons if owner_of(name, TWO) == TWO[0]]
    assert {name: reason for name, reason in reasons.items() if reason == "NoData"}.keys() == {
        *here
    }
    assert set(reasons.values()) == {"NoData", "Unreachable"}
    assert list(service.forecasters) == here
    silent = f'r1_forecast_forwarded_total{{outcome="NoResponse",shard="{TWO[1]}"}}'
    assert f"{silent} {8.0 - len(here)}" in text
    assert "r1_forecast_shards 2.0" in text


async def test_changed_list_drops_moved_series_and_retains_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_watcher, "POLL_SECONDS", 0.01)
    path = listed(tmp_path / "shards.json", TWO[0])
    file = FileWatcher(path, parse_shards)
    service = ForecastService(Silence(), Trainer((), TrainingQueue(0.25)))
    routed = build_router(service, TWO[0], file)
    app = service.application(routed.operator_forecast)
    open_shard(app, service, routed, file)
    names = [f"team/model-{number}" for number in range(8)]
    async with TestServer(app):
        for name in names:
            await routed.operator_forecast(parse_forecast_request(QUESTION | {"series": name}), 1)
        assert list(service.forecasters) == names
        retained = {
            name: service.forecasters[name] for name in names if owner_of(name, TWO) == TWO[0]
        }
        path.write_text("{")  # a wrong list changes nothing
        await asyncio.sleep(0.1)
        assert list(service.forecasters) == names
        listed(path, *TWO)
        for _ in range(3000):
            if len(service.forecasters) < len(names):
                break
            await asyncio.sleep(0.02)
        assert service.forecasters == retained, "the same objects, with all that they know"
        moved = next(name for name in names if name not in retained)
        shown = generate_latest(service.metrics.registry).decode()
        assert f'series="{moved}"' not in shown
        assert "r1_forecast_shards 2.0" in shown
    assert "The previous content stays in force" in caplog.text
