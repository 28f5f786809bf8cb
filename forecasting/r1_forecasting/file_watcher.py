"""A watched file whose content may change while the forecaster runs.

The kubelet replaces a mounted ConfigMap in place. A restart would lose every history and every
trained model, so the file is polled; invalid content leaves the previous content in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

LOG = logging.getLogger(__name__)

POLL_SECONDS = 10.0

T = TypeVar("T")


class FileWatcher(Generic[T]):
    """The last valid content of ``path``, parsed by ``parse``."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        """Raises ``ValueError`` or ``OSError`` where the file is invalid at the start."""
        self.path = path
        self._parse = parse
        self._text = path.read_text()
        self.content = parse(self._text)

    def reload(self) -> bool:
        """Read the file again; return whether its content has changed."""
        try:
            text = self.path.read_text()
            if text == self._text:
                return False
            self._text = text
            self.content = self._parse(text)
        except Exception as error:  # noqa: BLE001 - invalid content of any kind is ignored
            LOG.error(
                "%s is invalid: %s. The previous content stays in force; correct the file.",
                self.path,
                error,
            )
            return False
        LOG.info("%s has changed; the new content is in force", self.path)
        return True

    async def watch(self, changed: Callable[[], None] = lambda: None) -> None:
        """Poll every ``POLL_SECONDS`` and call ``changed`` on new content, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self.reload():
                changed()
