"""Fitted models on disk, so that a restart does not train them again.

Fitting a thousand series takes hours; fitted models take some hundred kilobytes per series. One
file holds the models of one series with their source and the time of the fit; another source or
changed code makes the file invalid. No other process may write to the folder: the files are
unpickled, so write access to the folder is code execution here.
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
"""Query, step (s) and season (s): the identity of a series' data."""


@dataclass(frozen=True, slots=True)
class StoredModels:
    """Fitted models of one series; ``fitted_at`` is Unix time, ``code`` the digest of the code."""

    series_name: str
    source: Source
    fitted_at: float
    code: str
    models: Mapping[str, Fitted]


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Folder of stored models; without a ``path`` nothing is stored."""

    path: Path | None

    @classmethod
    def create(cls, path: Path | None) -> ModelStore:
        """Open the folder and create it where missing, with access for this user alone.

        Raises OSError.
        """
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
        """Write atomically; a write error is logged and costs one fit after a restart."""
        if self.path is None:
            return
        stored = StoredModels(series_name, source, fitted_at, code_digest(), dict(models))
        file = self._file(self.path, series_name)
        try:
            fresh = file.with_suffix(".new")
            fresh.write_bytes(pickle.dumps(stored, protocol=pickle.HIGHEST_PROTOCOL))
            os.replace(fresh, file)
        except OSError as error:
            LOG.warning(
                "models of series %s are not stored: %s; a restart trains them again",
                series_name,
                error,
            )

    def load(self, series_name: str, source: Source) -> StoredModels | None:
        """Return the models stored for this source by this code, None otherwise."""
        if self.path is None:
            return None
        try:
            stored = pickle.loads(self._file(self.path, series_name).read_bytes())  # noqa: S301 - our own
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - a truncated file may raise anything
            LOG.warning(
                "stored models of series %s cannot be read: %s; they are trained again",
                series_name,
                error,
            )
            return None
        if not isinstance(stored, StoredModels) or stored.code != code_digest():
            return None
        return stored if (stored.series_name, stored.source) == (series_name, source) else None

    def delete(self, series_name: str) -> None:
        """Delete the file of a dropped series."""
        if self.path is not None:
            self._file(self.path, series_name).unlink(missing_ok=True)

    def delete_older_than(self, before: float) -> None:
        """Delete files written before a Unix time."""
        for file in self._files():
            if file.stat().st_mtime < before:
                file.unlink(missing_ok=True)

    def newest_file_time(self) -> float:
        """Time of the last write (Unix time), 0 without files."""
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
    """Digest of the package's code: stored models are invalid after any change."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
