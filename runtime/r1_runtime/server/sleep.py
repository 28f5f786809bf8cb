"""Sleep and wake: a server without requests returns the memory of its cache, or of its weights too.

The levels are vLLM's: 1 frees the cache, 2 frees the weights as well. vLLM's level 1 moves the weights
of a GPU to host memory; here they stay where they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from r1_runtime.backends.step_plan import Backend
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.runner import Runner

_log = logging.getLogger("r1_runtime")


class Sleeper:
    """Frees and restores the memory of an engine that has no requests.

    Args:
        engine: its thread does the work, so that no step runs meanwhile.
        pool: the cache's blocks; their content is forgotten.
        runner: owner of the backend.
        build: loads the backend again, for level 2.

    Attributes:
        level: 0 while awake, else 1 or 2.
    """

    def __init__(
        self, engine: Engine, pool: BlockPool, runner: Runner, build: Callable[[], Backend]
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._runner = runner
        self._build = build
        self.level = 0

    def sleep(self, level: int) -> None:
        """Free the cache (level 1), or cache and weights (level 2). Blocks; no request may run."""
        self._engine.run_between_steps(lambda: self._sleep(level)).result()

    def wake_up(self) -> None:
        """Allocate and load what was freed. Blocks.

        Raises:
            MemoryError: it does not fit any more; the engine stays asleep.
            ModelLoadError: the checkpoint has changed or is gone.
        """
        self._engine.run_between_steps(self._wake_up).result()

    def _sleep(self, level: int) -> None:
        if level <= self.level:
            return
        self._pool.forget(range(self._pool.count))
        if level == 2:
            self._runner.backend.close()
        else:
            self._runner.backend.release_cache()
        self.level = level
        _log.info("Sleeping at level %d", level)

    def _wake_up(self) -> None:
        if not self.level:
            return
        started = time.perf_counter()
        if self.level == 2:
            self._runner.backend = self._build()
        else:
            self._runner.backend.allocate_cache()
        _log.info("Awake after %.2f s", time.perf_counter() - started)
        self.level = 0
