"""Prometheus metrics, under vLLM's names where the meaning is the same.

Dashboards, autoscalers and endpoint pickers for vLLM work with this server without an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from r1_runtime.engine.messages import EngineState, Output, Timing
from r1_runtime.engine.sequence import Finish
from r1_runtime.experts.residency import ExpertTotals
from r1_runtime.server.expert_metrics import ExpertCollector
from r1_runtime.server.limits import Limits

_LABELS = ("model_name", "engine")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_OUTPUTS = (1, 2, 5, 10, 20)
_SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")  # vLLM's names, by level
_WAITING_REASONS = ("capacity", "deferred")


class RuntimeMetrics:
    """All series of one served model.

    Args:
        model: value of the label `model_name`.
    """

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = (model, "0")
        self._state = EngineState()
        self.running = self._gauge("num_requests_running", "Requests in the running batch.")
        self.waiting = self._gauge(
            "num_requests_waiting", "Requests that wait for a seat or for cache blocks."
        )
        by_reason = Gauge(
            "vllm:num_requests_waiting_by_reason",
            "Waiting requests, by reason.",
            (*_LABELS, "reason"),
            registry=self.registry,
        )
        self.waiting_by_reason = {
            reason: by_reason.labels(*self._labels, reason) for reason in _WAITING_REASONS
        }
        self.cache_usage = self._gauge(
            "kv_cache_usage_perc", "Fraction of cache blocks in use, 0 to 1."
        )
        self.cache_config = Gauge(
            "vllm:cache_config_info",
            "Size of the cache; the value is 1.",
            (*_LABELS, "block_size", "num_gpu_blocks"),
            registry=self.registry,
        )
        self.sleep_state = Gauge(
            "vllm:engine_sleep_state",
            "1 for the present state: awake, cache freed (weights_offloaded), weights too (discard_all).",
            (*_LABELS, "sleep_state"),
            registry=self.registry,
        )
        self.note_sleep(0)
        self.preemptions = self._counter(
            "num_preemptions", "Preemptions of running sequences because of missing cache blocks."
        )
        self.cache_queries = self._counter(
            "prefix_cache_queries", "Prompt tokens looked up in the prefix cache."
        )
        self.cache_hits = self._counter(
            "prefix_cache_hits", "Prompt tokens found in the prefix cache."
        )
        self.drafts = self._counter(
            "spec_decode_num_drafts", "Steps of sequences that verified draft tokens."
        )
        self.draft_tokens = self._counter("spec_decode_num_draft_tokens", "Draft tokens verified.")
        self.accepted_tokens = self._counter(
            "spec_decode_num_accepted_tokens", "Draft tokens that the model sampled too."
        )
        self.attention_read = self._own_counter(
            "attention_read_tokens",
            "Cache tokens that sparse attention read, once per layer, row and head; divided by"
            " r1_runtime_attention_context_tokens_total it is the share read.",
        )
        self.attention_context = self._own_counter(
            "attention_context_tokens",
            "Tokens of the contexts of rows that attended sparsely, once per layer, row and head.",
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of admitted requests.")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens.")
        self.finished = self._by_label(
            "request_success", "Finished requests, by reason.", "finished_reason"
        )
        for reason in Finish:
            self.finished.labels(*self._labels, reason.value)
        self.rejected = self._by_label(
            "admission_rejections", "Requests rejected before admission, by reason.", "reason"
        )
        self.first_token = self._seconds(
            "time_to_first_token_seconds", "Seconds from arrival to the first token."
        )
        self.token_gap = self._histogram(
            "inter_token_latency_seconds", "Seconds between two tokens.", _TOKEN_SECONDS
        )
        self.per_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Mean seconds per output token after the first.",
            _TOKEN_SECONDS,
        )
        self.latency = self._seconds(
            "e2e_request_latency_seconds", "Seconds from arrival to the last token."
        )
        self.queue_time = self._seconds(
            "request_queue_time_seconds", "Seconds from arrival to the first scheduled step."
        )
        self.prefill_time = self._seconds(
            "request_prefill_time_seconds", "Seconds from the first step to the first token."
        )
        self.decode_time = self._seconds(
            "request_decode_time_seconds", "Seconds from the first token to the last."
        )
        self.inference_time = self._seconds(
            "request_inference_time_seconds", "Seconds from the first step to the last token."
        )
        self.prompt_length = self._histogram(
            "request_prompt_tokens", "Prompt tokens per request.", _TOKENS
        )
        self.output_length = self._histogram(
            "request_generation_tokens", "Generated tokens per request.", _TOKENS
        )
        self.max_tokens = self._histogram(
            "request_params_max_tokens", "Limit of the output per request.", _TOKENS
        )
        self.outputs = self._histogram("request_params_n", "Outputs per prompt.", _OUTPUTS)
        self.step_tokens = self._histogram(
            "iteration_tokens_total", "Tokens computed per step.", _TOKENS
        )

    def note_sleep(self, level: int) -> None:
        """Set the state: 0 is awake, 1 without a cache, 2 without weights too."""
        for number, state in enumerate(_SLEEP_STATES):
            self.sleep_state.labels(*self._labels, state).set(number == level)

    def note_limits(self, limits: Limits) -> None:
        """Set the constants of the loaded model."""
        sizes = (str(limits.block_size), str(limits.block_count))
        self.cache_config.labels(*self._labels, *sizes).set(1)

    def note_state(self, state: EngineState) -> None:
        """Update gauges and totals after a step."""
        before, self._state = self._state, state
        self.running.set(state.running)
        self.waiting.set(state.waiting)
        self.waiting_by_reason["capacity"].set(state.waiting)
        self.cache_usage.set(state.cache_usage)
        # A state after the engine's end has no totals.
        self.preemptions.inc(max(0, state.preemptions - before.preemptions))
        self.cache_queries.inc(max(0, state.prefix_cache_queries - before.prefix_cache_queries))
        self.cache_hits.inc(max(0, state.prefix_cache_hits - before.prefix_cache_hits))
        self.drafts.inc(max(0, state.drafts - before.drafts))
        self.draft_tokens.inc(max(0, state.draft_tokens - before.draft_tokens))
        self.accepted_tokens.inc(max(0, state.accepted_tokens - before.accepted_tokens))
        read = state.attention_read_tokens - before.attention_read_tokens
        context = state.attention_context_tokens - before.attention_context_tokens
        self.attention_read.inc(max(0, read))
        self.attention_context.inc(max(0, context))
        if state.step_tokens:
            self.step_tokens.observe(state.step_tokens)

    def follow_experts(self, totals: Callable[[], ExpertTotals]) -> None:
        """Export the experts' totals, read at each scrape; nothing for a model without experts."""
        self.registry.register(
            ExpertCollector(totals, dict(zip(_LABELS, self._labels, strict=True)))
        )

    def note_request(self, n: int) -> None:
        """Count a request of `n` outputs per prompt."""
        self.outputs.observe(n)

    def note_admitted(self, prompt_tokens: int, max_tokens: int) -> None:
        """Count one output that the engine will generate."""
        self.prompt_tokens.inc(prompt_tokens)
        self.prompt_length.observe(prompt_tokens)
        self.max_tokens.observe(max_tokens)

    def note_rejected(self, reason: str) -> None:
        self.rejected.labels(*self._labels, reason).inc()

    def note_output(self, output: Output) -> None:
        """Count one output of a step."""
        self.generation_tokens.inc(output.new_tokens)
        if output.time_to_first_token is not None:
            self.first_token.observe(output.time_to_first_token)
        if output.token_gap is not None:
            self.token_gap.observe(output.token_gap)
        if output.finish is not None:
            self.finished.labels(*self._labels, output.finish.value).inc()
            self.output_length.observe(output.generated)
        if output.timing is not None:
            self._note_timing(output.timing, output.generated)

    def render(self) -> bytes:
        """The text exposition format."""
        return bytes(generate_latest(self.registry))

    def _note_timing(self, timing: Timing, generated: int) -> None:
        self.latency.observe(timing.finished - timing.arrived)
        if timing.scheduled is None:
            return
        self.queue_time.observe(timing.scheduled - timing.arrived)
        self.inference_time.observe(timing.finished - timing.scheduled)
        if timing.first_token is None:
            return
        decode = timing.finished - timing.first_token
        self.prefill_time.observe(timing.first_token - timing.scheduled)
        self.decode_time.observe(decode)
        if generated > 1:
            self.per_token.observe(decode / (generated - 1))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, _LABELS, registry=self.registry).labels(*self._labels)

    def _counter(self, name: str, text: str) -> Counter:
        made = Counter(f"vllm:{name}", text, _LABELS, registry=self.registry)
        return made.labels(*self._labels)

    def _own_counter(self, name: str, text: str) -> Counter:
        made = Counter(f"r1_runtime_{name}", text, _LABELS, registry=self.registry)
        return made.labels(*self._labels)

    def _by_label(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"vllm:{name}", text, (*_LABELS, label), registry=self.registry)

    def _seconds(self, name: str, text: str) -> Histogram:
        return self._histogram(name, text, _SECONDS)

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        made = Histogram(
            f"vllm:{name}", text, _LABELS, registry=self.registry, buckets=tuple(buckets)
        )
        return made.labels(*self._labels)
