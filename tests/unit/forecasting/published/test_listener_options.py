"""Options of the listeners, off by default, and the watched list of published forecasts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1_forecasting.__main__ import main
from r1_forecasting.options import parse_options
from r1_forecasting.published.catalogue_file import CatalogueFile

ORDERS = {"namespace": "shop", "name": "orders", "query": "orders", "leadSeconds": 60}


def test_both_listeners_are_off_by_default() -> None:
    options = parse_options([])
    assert options.keda_port is None
    assert options.external_metrics_port is None
    assert options.published.catalogue == {}


def test_listeners_are_enabled_by_flag_or_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps([ORDERS]))
    monkeypatch.setenv("R1_FORECASTER_KEDA_PORT", "8083")
    options = parse_options(["--external-metrics-port", "8443", "--published", str(file)])
    assert (options.keda_port, options.external_metrics_port) == (8083, 8443)
    assert options.published.catalogue.keys() == {("shop", "orders")}


@pytest.mark.parametrize(
    ("option", "text"),
    [("--keda-port", "door"), ("--external-metrics-port", "70000"), ("--published", "/no/file")],
)
def test_bad_options_are_refused(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options([option, text])
    assert ended.value.code == 2
    assert f"{option}: " in capsys.readouterr().err


def test_invalid_list_is_an_error_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps([ORDERS | {"leadSeconds": "a minute"}]))
    with pytest.raises(SystemExit):
        parse_options(["--external-metrics-port", "8443", "--published", str(file)])
    assert "[0].leadSeconds: needs to be a number of seconds" in capsys.readouterr().err


def test_a_list_that_nothing_serves_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps([ORDERS]))
    with pytest.raises(SystemExit):
        parse_options(["--published", str(file)])
    assert "set --external-metrics-port as well" in capsys.readouterr().err


def test_external_metrics_outside_a_pod_name_the_missing_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(["--external-metrics-port", "0", "--models", ""]) == 2
    assert "KUBERNETES_SERVICE_HOST" in capsys.readouterr().err


def test_a_changed_list_is_taken_and_a_wrong_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps([ORDERS]))
    listed = CatalogueFile(file)
    file.write_text(json.dumps([ORDERS, ORDERS | {"name": "refunds"}]))
    listed.reload()
    both = {("shop", "orders"), ("shop", "refunds")}
    assert listed.catalogue.keys() == both
    for wrong in (b"[{}]", b"\xff"):
        file.write_bytes(wrong)
        listed.reload()
        listed.reload()
        assert listed.catalogue.keys() == both
    file.unlink()
    listed.reload()
    assert listed.catalogue.keys() == both
    assert sum("stays in force" in each.message for each in caplog.records) == 4
    file.write_text("[]")
    listed.reload()
    assert listed.catalogue == {}
