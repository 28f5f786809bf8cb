"""The published list as a file that is followed; no file is an empty list."""

from __future__ import annotations

from pathlib import Path

from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.published.catalogue import EMPTY, Catalogue, parse_catalogue


class CatalogueFile:
    """The list in ``path`` as it stands now."""

    def __init__(self, path: Path | None) -> None:
        """Raises ``ValueError`` or ``OSError``: a list that is wrong from the start is told."""
        self._file = None if path is None else FileWatcher(path, parse_catalogue)

    @property
    def catalogue(self) -> Catalogue:
        """The newest list that could be read."""
        return EMPTY if self._file is None else self._file.content

    def look(self) -> None:
        """Read the file again if it has changed."""
        if self._file is not None:
            self._file.look()

    async def follow(self) -> None:
        """Look every few seconds, until cancelled; at once done where there is no file."""
        if self._file is not None:
            await self._file.follow()
