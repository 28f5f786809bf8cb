"""Prometheus metrics, under vLLM's names where the meaning is the same.

Dashboards, autoscalers and endpoint pickers for vLLM work with this server without an adapter.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from r1_runtime.engine.messages import EngineState, Output, Timing
from r1_runtime.engine.sequence import Finish
from r1_runtime.server.limits import Limits

_LABELS = ("model_name", "engine")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class RuntimeMetrics:
    """All series of one served model."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = (model, "0")

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _LABELS, registry=self.registry).labels(*self._labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, _LABELS, registry=self.registry).labels(*self._labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(name, text, _LABELS, registry=self.registry, buckets=buckets)
            return made.labels(*self._labels)

        self.running = gauge("vllm:num_requests_running", "Requests in the running batch.")
        self.waiting = gauge(
            "vllm:num_requests_waiting", "Requests that wait for a seat or for cache blocks."
        )
        self.cache_usage = gauge(
            "vllm:kv_cache_usage_perc", "Fraction of cache blocks in use, 0 to 1."
        )
        self.preemptions = counter(
            "vllm:num_preemptions",
            "Preemptions of running sequences because of missing cache blocks.",
        )
        self.prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens of admitted requests.")
        self.generation_tokens = counter("vllm:generation_tokens", "Generated tokens.")
        self.finished = Counter(
            "vllm:request_success",
            "Finished requests, by reason.",
            (*_LABELS, "finished_reason"),
            registry=self.registry,
        )
        self.rejected = Counter(
            "vllm:admission_rejections",
            "Requests rejected before admission, by reason.",
            (*_LABELS, "reason"),
            registry=self.registry,
        )
        for reason in Finish:
            self.finished.labels(*self._labels, reason.value)
        self.first_token = histogram(
            "vllm:time_to_first_token_seconds", "Seconds from arrival to the first token.", _SECONDS
        )
        self.per_token = histogram(
            "vllm:request_time_per_output_token_seconds",
            "Mean seconds per output token after the first.",
            _TOKEN_SECONDS,
        )
        self.latency = histogram(
            "vllm:e2e_request_latency_seconds", "Seconds from arrival to the last token.", _SECONDS
        )
        self.queue_time = histogram(
            "vllm:request_queue_time_seconds",
            "Seconds from arrival to the first scheduled step.",
            _SECONDS,
        )
        self.prompt_length = histogram(
            "vllm:request_prompt_tokens", "Prompt tokens per request.", _TOKENS
        )
        self.output_length = histogram(
            "vllm:request_generation_tokens", "Generated tokens per request.", _TOKENS
        )
        self.step_tokens = histogram(
            "vllm:iteration_tokens_total", "Tokens computed per step.", _TOKENS
        )
        self._reported_preemptions = 0

    def note_state(self, state: EngineState) -> None:
        """Update the gauges after a step."""
        self.running.set(state.running)
        self.waiting.set(state.waiting)
        self.cache_usage.set(state.cache_usage)
        self.preemptions.inc(state.preemptions - self._reported_preemptions)
        self._reported_preemptions = state.preemptions
        if state.step_tokens:
            self.step_tokens.observe(state.step_tokens)

    def note_limits(self, limits: Limits) -> None:
        """Set the constants of the loaded model."""

    def note_request(self, n: int) -> None:
        """Count a request of `n` outputs per prompt."""

    def note_admitted(self, prompt_tokens: int, max_tokens: int) -> None:
        self.prompt_tokens.inc(prompt_tokens)
        self.prompt_length.observe(prompt_tokens)

    def note_rejected(self, reason: str) -> None:
        self.rejected.labels(*self._labels, reason).inc()

    def note_output(self, output: Output) -> None:
        """Count one output of a step."""
        self.generation_tokens.inc(output.new_tokens)
        if output.time_to_first_token is not None:
            self.first_token.observe(output.time_to_first_token)
        if output.finish is not None:
            self.finished.labels(*self._labels, output.finish.value).inc()
            self.output_length.observe(output.generated)
        if output.timing is not None:
            self._note_timing(output.timing, output.generated)

    def _note_timing(self, timing: Timing, generated: int) -> None:
        self.latency.observe(timing.finished - timing.arrived)
        if timing.scheduled is not None:
            self.queue_time.observe(timing.scheduled - timing.arrived)
        if timing.first_token is not None and generated > 1:
            gap = (timing.finished - timing.first_token) / (generated - 1)
            self.per_token.observe(gap)

    def render(self) -> bytes:
        """The text exposition format."""
        return bytes(generate_latest(self.registry))
