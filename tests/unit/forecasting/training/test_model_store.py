"""Stored models after a restart, valid and invalid."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

from r1_forecasting.__main__ import main
from r1_forecasting.models.baselines.damped_trend import FittedDampedTrend
from r1_forecasting.options import parse_options
from r1_forecasting.series.series import Series
from r1_forecasting.training import model_store
from r1_forecasting.training.model_store import ModelStore

SOURCE = ("demand", 60.0, 86_400.0)
MODELS = {"damped-trend": FittedDampedTrend(0.3, 0.9, 1_000.0)}


def open_store(path: Path) -> ModelStore:
    folder = ModelStore(path)
    folder.save("team/chat", SOURCE, 5_000.0, MODELS)
    return folder


def test_stored_models_predict_the_same(tmp_path: Path) -> None:
    loaded = open_store(tmp_path).load("team/chat", SOURCE)
    assert loaded is not None
    assert loaded.fitted_at == 5_000.0
    series, origins = Series(0, 60, np.arange(50.0)), np.array([20, 49])
    np.testing.assert_array_equal(
        loaded.models["damped-trend"].peak(series, origins, 3, (0.5,)),
        MODELS["damped-trend"].peak(series, origins, 3, (0.5,)),
    )


def test_other_source_finds_no_stored_models(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    assert folder.load("team/other", SOURCE) is None
    assert folder.load("team/chat", ("tokens", 60.0, 86_400.0)) is None


def test_changed_code_invalidates_stored_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_store(tmp_path)
    monkeypatch.setattr(model_store, "code_digest", lambda: "another")
    assert folder.load("team/chat", SOURCE) is None


def test_truncated_file_is_ignored_and_overwritten(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", pickle.dumps({"models": 1})):
        file.write_bytes(broken)
        assert folder.load("team/chat", SOURCE) is None
    assert open_store(tmp_path).load("team/chat", SOURCE) is not None


def test_old_stored_models_are_deleted(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime
    folder.delete_older_than(before=written - 1)
    assert folder.load("team/chat", SOURCE) is not None
    folder.delete_older_than(before=written + 1)
    assert folder.load("team/chat", SOURCE) is None


def test_full_disk_costs_only_a_fit(tmp_path: Path) -> None:
    nowhere = ModelStore(tmp_path / "missing")
    nowhere.save("team/chat", SOURCE, 5_000.0, MODELS)
    assert nowhere.load("team/chat", SOURCE) is None


def test_deleted_models_are_gone_and_without_a_folder_nothing_is_stored(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    folder.delete("team/chat")
    folder.delete("team/chat")
    assert list(tmp_path.iterdir()) == []
    assert model_store.ModelStore(None).load("team/chat", SOURCE) is None


def test_the_folder_is_made_for_this_user_alone_or_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parse_options(["--model-store", str(tmp_path / "models")])
    assert ModelStore.create(options.model_store).path == tmp_path / "models"
    assert (tmp_path / "models").stat().st_mode & 0o077 == 0
    assert parse_options([]).model_store is None
    (tmp_path / "file").write_text("")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["--model-store", str(tmp_path / "file" / "models")]) == 2
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "--model-store: cannot use the folder" in capsys.readouterr().err
