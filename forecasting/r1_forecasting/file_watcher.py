"""A file that may change while the forecaster runs.

A mounted ConfigMap is replaced in place. Restarting for it would forget every history and every
trained model, so the file is read again; content that is wrong leaves the one before in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 10.0

T = TypeVar("T")


class FileWatcher(Generic[T]):
    """What ``parse`` made of the text in ``path`` when it last could."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        """Raises ``ValueError`` or ``OSError``: what is wrong from the start is told."""
        self.path = path
        self._parse = parse
        self._text = path.read_text()
        self.content = parse(self._text)

    def look(self) -> bool:
        """Read the file again; whether its content is another one now."""
        try:
            text = self.path.read_text()
            if text == self._text:
                return False
            self._text = text
            self.content = self._parse(text)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not in force
            LOG.error("%s: %s; what was there before stays in force", self.path, error)
            return False
        LOG.info("%s has changed and is in force", self.path)
        return True

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Look every few seconds and say what has ``changed``, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.look():
                changed()
