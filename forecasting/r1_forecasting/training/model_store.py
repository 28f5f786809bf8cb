"""Fitted models on disk: what a restart need not learn again.

Fitting a thousand subjects takes hours; what was fitted is some hundred kilobytes each. A file holds
one subject's models with the question that they answer and when they were fitted; another question,
or code that has changed since, makes it void. The folder has to be the forecaster's own: its files
are unpickled, so whoever writes there runs code here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from r1_forecasting.models.protocol import Fitted

LOG = logging.getLogger(__name__)

Source = tuple[str, float, float]
"""Query, step and season (s): what makes a series another one."""


@dataclass(frozen=True, slots=True)
class StoredModels:
    """One subject's fitted models. ``fitted_at`` is Unix time, ``code`` what they were fitted by."""

    series_name: str
    source: Source
    fitted_at: float
    code: str
    models: Mapping[str, Fitted]


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Files of kept models; without a ``path`` nothing is kept and nothing found."""

    path: Path | None

    @classmethod
    def create(cls, path: Path | None) -> ModelStore:
        """The folder, made where it is not there yet, for this user alone. Raises OSError."""
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path)

    def save(
        self,
        series_name: str,
        source: Source,
        fitted_at: float,
        models: Mapping[str, Fitted],
    ) -> None:
        """Write, all or nothing; a disk that fails is logged and costs a fit after a restart."""
        if self.path is None:
            return
        stored = StoredModels(series_name, source, fitted_at, code_digest(), dict(models))
        file = self._file(self.path, series_name)
        try:
            fresh = file.with_suffix(".new")
            fresh.write_bytes(pickle.dumps(stored, protocol=pickle.HIGHEST_PROTOCOL))
            os.replace(fresh, file)
        except OSError as error:
            LOG.warning("models of %s could not be kept: %s", series_name, error)

    def load(self, series_name: str, source: Source) -> StoredModels | None:
        """What was kept for this very question by this very code, None otherwise."""
        if self.path is None:
            return None
        try:
            stored = pickle.loads(self._file(self.path, series_name).read_bytes())  # noqa: S301 - our own
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - a file cut short or of other code may raise anything
            LOG.warning("models of %s cannot be read back: %s", series_name, error)
            return None
        if not isinstance(stored, StoredModels) or stored.code != code_digest():
            return None
        return stored if (stored.series_name, stored.source) == (series_name, source) else None

    def delete(self, series_name: str) -> None:
        """Its subject has gone."""
        if self.path is not None:
            self._file(self.path, series_name).unlink(missing_ok=True)

    def delete_older_than(self, before: float) -> None:
        """Remove what was written before a Unix time: nobody has asked for it since."""
        for file in self._files():
            if file.stat().st_mtime < before:
                file.unlink(missing_ok=True)

    def newest_file_time(self) -> float:
        """When the last file was written (Unix time), 0 for none."""
        return max((file.stat().st_mtime for file in self._files()), default=0.0)

    def _files(self) -> list[Path]:
        if self.path is None:
            return []
        return [one for one in self.path.iterdir() if one.suffix in (".models", ".new")]

    @staticmethod
    def _file(path: Path, series_name: str) -> Path:
        return path / f"{hashlib.sha256(series_name.encode()).hexdigest()[:32]}.models"


@cache
def code_digest() -> str:
    """Of everything that fits or reads models: they are void when any of it changes."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
