"""Watched file of published forecasts; without a file the list is empty."""

from __future__ import annotations

from pathlib import Path

from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.published.catalogue import EMPTY, Catalogue, parse_catalogue


class CatalogueFile:
    """The current list in ``path``."""

    def __init__(self, path: Path | None) -> None:
        """Raises ``ValueError`` or ``OSError`` where the list is invalid at the start."""
        self._file = None if path is None else FileWatcher(path, parse_catalogue)

    @property
    def catalogue(self) -> Catalogue:
        """The last valid list."""
        return EMPTY if self._file is None else self._file.content

    def reload(self) -> None:
        """Read the file again if it has changed."""
        if self._file is not None:
            self._file.reload()

    async def watch(self) -> None:
        """Watch the file until cancelled; return at once without a file."""
        if self._file is not None:
            await self._file.watch()
