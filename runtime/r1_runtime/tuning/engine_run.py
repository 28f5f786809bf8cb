"""Greedy texts from the whole engine in this process: scheduler, prefix cache and drafts included."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

from r1_runtime.config import R1Config
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.server.loading import LoadedModel, StartupTimes, load
from r1_runtime.server.options import serve_options

_SECONDS = 600.0


class EngineRun:
    """A loaded engine that answers prompts.

    Args:
        config: the model and how it is computed.
        most_tokens: longest prompt with its output.

    Raises:
        RuntimeFault: the model does not load with this configuration.
    """

    def __init__(self, config: R1Config, most_tokens: int) -> None:
        config = dataclasses.replace(
            config, threads=config.threads or 1, max_num_seqs=4, max_model_len=most_tokens
        )
        self._done = threading.Event()
        self._tokens: dict[str, tuple[int, ...]] = {}
        self._pending = 0
        self.state = EngineState()
        """of the engine, after its last step"""
        self.model: LoadedModel = load(
            serve_options(config), self._deliver, StartupTimes({}, time.perf_counter())
        )

    def _deliver(self, outputs: list[Output], state: EngineState) -> None:
        self.state = state
        for output in outputs:
            known = self._tokens.get(output.request_id, ())
            self._tokens[output.request_id] = known + output.token_ids
            self._pending -= output.finish is not None
        if not self._pending:
            self._done.set()

    def answer(
        self, prompts: Sequence[Sequence[int]], count: int
    ) -> tuple[float, list[tuple[int, ...]]]:
        """CPU seconds, and `count` greedy tokens after each prompt, one prompt after the other."""
        params = SamplingParams(max_tokens=count, temperature=0, ignore_eos=True)
        self._tokens = {}
        started = time.process_time()
        for number, prompt in enumerate(prompts):
            self._pending = 1
            self._done.clear()
            request = Request(str(number), tuple(prompt), params, time.monotonic())
            self.model.engine.submit(request)
            if not self._done.wait(_SECONDS):
                raise TimeoutError(f"the engine did not end prompt {number} in {_SECONDS:g} s")
        seconds = time.process_time() - started
        return seconds, [self._tokens[str(number)] for number in range(len(prompts))]

    def close(self) -> None:
        """End the engine."""
        self.model.engine.stop()
        self.model.close()
