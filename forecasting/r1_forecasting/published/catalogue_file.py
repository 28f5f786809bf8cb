"""The published list as a file that may change while the forecaster runs.

A mounted ConfigMap is replaced in place. Restarting for it would forget every history and every
trained model, so the file is read again; a list that is wrong leaves the one before in force.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from r1_forecasting.published.catalogue import EMPTY, Catalogue, parse_catalogue

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 10.0


class CatalogueFile:
    """The list in ``path``; no path is an empty list."""

    def __init__(self, path: Path | None) -> None:
        """Raises ``ValueError`` or ``OSError``: a list that is wrong from the start is told."""
        self.path = path
        self._text = "" if path is None else path.read_text()
        self.catalogue: Catalogue = EMPTY if path is None else parse_catalogue(self._text)

    def look(self) -> None:
        """Read the file again if it has changed."""
        if self.path is None:
            return
        try:
            text = self.path.read_text()
            if text == self._text:
                return
            self._text = text
            self.catalogue = parse_catalogue(text)
        except (ValueError, OSError) as error:
            LOG.error("%s: %s; the list before it stays in force", self.path, error)
            return
        LOG.info("%s: %d forecasts are published", self.path, len(self.catalogue))

    async def follow(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
