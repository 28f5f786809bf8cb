"""Files and bodies of any content raise the declared error, and the reading task continues."""

from pathlib import Path

import pytest

from r1_common.contracts.forecast_request import InvalidForecastRequest, parse_forecast_request
from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.published.catalogue import parse_catalogue
from r1_forecasting.published.front_proxy import InvalidFrontProxy, parse_front_proxy
from r1_forecasting.sharding.ownership import InvalidShards, parse_shards
from r1_operator.plan.backtest.observed import read_message

DEEP = "[" * 100_000
TEXTS = ("", "{", DEEP, "null", "[null]", "[[]]", '[{"query": 1e400}]', "NaN", "9" * 5000, "[1]")


@pytest.mark.parametrize("text", TEXTS)
def test_lists_of_any_text_raise_their_declared_error(text: str) -> None:
    with pytest.raises(InvalidForecastRequest):
        parse_catalogue(text)
    with pytest.raises(InvalidShards):
        parse_shards(text)
    data = {"requestheader-client-ca-file": "x", "requestheader-username-headers": text or "{}"}
    with pytest.raises(InvalidFrontProxy):
        parse_front_proxy({"data": data})
    with pytest.raises(InvalidFrontProxy):
        parse_front_proxy({"data": text})
    assert "error" in read_message(text)


def test_a_period_that_no_float_holds_is_refused() -> None:
    with pytest.raises(InvalidForecastRequest):
        parse_forecast_request(
            {"series": "a/b", "query": "x", "step": 10**400, "leadTime": 10**400}
        )


@pytest.mark.parametrize(
    "error", [KeyError("a"), RecursionError(), TypeError("b"), ValueError("c")]
)
def test_a_file_that_its_parser_fails_on_leaves_the_earlier_content(
    error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(text: str) -> str:
        if text == "bad":
            raise error
        return text

    path = tmp_path / "file"
    path.write_text("good")
    watched = FileWatcher(path, parse)
    path.write_text("bad")
    assert not watched.reload()
    assert watched.content == "good"
    assert "stays in force" in caplog.text
    path.write_text("better")
    assert watched.reload()
    assert watched.content == "better"
