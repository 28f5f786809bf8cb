"""The CPU backend: a checkpoint packed into the native library, and one native call per step."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import (
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
)
from r1_runtime.backends.cpu.layer_shape import layer_shape
from r1_runtime.backends.cpu.library import (
    CacheType,
    Codec,
    Part,
    Plan,
    Shape,
    Source,
    address,
    load_library,
)
from r1_runtime.backends.cpu.sparsity import native_sparsity
from r1_runtime.backends.sampling_plan import SamplingPlan
from r1_runtime.backends.step_plan import StepPlan, StepResult
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Checkpoint, Encoding, StoredTensor
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.experts.residency import ExpertResidency, ExpertTotals, Uses
from r1_runtime.sparsity.heads import key_heads
from r1_runtime.sparsity.policy import DynamicSparseAttention

_UNIT = 16  # slots of a key unit: blocks are multiples of it
_INPUTS = (
    *("tokens", "positions", "query_starts", "context_lengths", "block_starts", "blocks"),
    "output_rows",
)
_SAMPLING = (
    *("temperatures", "top_p", "min_p", "top_k", "targets", "top_counts", "masks", "seeds"),
    *("counters", "adjust_starts", "adjust_tokens", "adjust_values", "mask_bits"),
)
_NO_HIDDEN = np.empty((0, 0), np.float32)
_SOURCES = {Encoding(source.name): source for source in Source}


@dataclass(frozen=True, slots=True)
class Codecs:
    """Packed form of each kind of matrix; None keeps the stored precision.

    Routers are always float32: they choose experts, and they are small.
    """

    attention: Codec | None = None
    feed_forward: Codec | None = None
    experts: Codec | None = None
    embedding: Codec | None = None  # and the output head


_STORED = {
    Encoding.F32: Codec.FLOAT32,
    Encoding.F16: Codec.FLOAT16,
    Encoding.BF16: Codec.BFLOAT16,
    Encoding.F8_E4M3: Codec.FLOAT8,
    Encoding.Q8_0: Codec.INT8,
    Encoding.Q4_0: Codec.INT4,
    Encoding.Q4_1: Codec.INT4_MIN,
    Encoding.Q4_K: Codec.INT4_MIN,
}


def stored_codec(encoding: Encoding) -> Codec:
    """The packed form that keeps a stored encoding's precision, at most a bit above its size."""
    return _STORED.get(encoding, Codec.INT8)


def packed_bytes(
    checkpoint: Checkpoint,
    codecs: Codecs,
    *,
    with_draft_layer: bool = False,
    resident_experts: float = 1.0,
) -> int:
    """Bytes of memory that the matrices of a checkpoint need when packed; vectors are not counted.

    Args:
        checkpoint: the model.
        codecs: packed forms.
        with_draft_layer: count the layer that drafts tokens too.
        resident_experts: share of the routed experts that is in memory.
    """
    total = 0.0
    layers = _layers(checkpoint.description, with_draft_layer=with_draft_layer)
    for places in _matrices(_places(checkpoint, layers, codecs)):
        tensors = [checkpoint.tensor(place.name) for place in places]
        routed = places[0].part in (Part.EXPERT_GATE, Part.EXPERT_DOWN)
        routed = routed and places[0].layer < len(checkpoint.description.layers)
        bits = _codec(places, tensors, checkpoint).bits * (resident_experts if routed else 1.0)
        for tensor in tensors:
            if len(tensor.shape) == 2:
                rows, cols = -(-tensor.shape[0] // _UNIT) * _UNIT, -(-tensor.shape[1] // 32) * 32
                total += rows * cols * bits / 8
    return int(total)


def expert_counts(description: ModelDescription) -> list[int]:
    """Routed experts of each layer, 0 for a dense one."""
    return [
        layer.feed_forward.experts if isinstance(layer.feed_forward, MixtureOfExperts) else 0
        for layer in description.layers
    ]


class CpuBackend:
    """A model in the native library.

    Args:
        checkpoint: read once, tensor by tensor, during the construction.
        codecs: packed forms of the matrices.
        cache_type: element type of the cache.
        blocks: cache blocks.
        block_size: tokens per block, a multiple of 16.
        max_positions: longest sequence; at most the description's.
        threads: CPU threads of a step.
        with_draft_layer: load the layer that drafts tokens, which the checkpoint must have. Steps
            whose plan has `next_tokens` then return drafts; -1 where no proposal can be used.
        gate: how many experts a token uses; None for the model's own number.
        residency: where the experts are; None for all of them in memory.
        sparsity: policy of sparse attention; None for dense attention.

    Attributes:
        description: of the network.
        expert_counts: routed experts of each layer, 0 for a dense one.

    Raises:
        NativeLibraryMissing: no variant for this processor is installed.
        ModelLoadError: the checkpoint lacks a tensor.
        MemoryError: the weights or the cache do not fit.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        codecs: Codecs = Codecs(),
        cache_type: CacheType = CacheType.FLOAT32,
        blocks: int,
        block_size: int,
        max_positions: int | None = None,
        threads: int = 1,
        with_draft_layer: bool = False,
        gate: DynamicGate | None = None,
        residency: ExpertResidency | None = None,
        sparsity: DynamicSparseAttention | None = None,
    ) -> None:
        if block_size % _UNIT:
            raise ValueError(f"block_size {block_size} is not a multiple of {_UNIT}")
        self.description = description = checkpoint.description
        positions = min(max_positions or description.max_positions, description.max_positions)
        self.expert_counts = expert_counts(description)
        self._library = load_library()
        shape = Shape(
            vocab=description.vocab_size,
            hidden=description.hidden_size,
            layers=len(description.layers),
            max_positions=positions,
            block_size=block_size,
            blocks=blocks,
            cache_type=cache_type,
            norm_eps=description.norm_eps,
            tied_head=description.tied_head,
        )
        self._totals_lock = threading.Lock()
        self._totals = ExpertTotals()
        self._plan = Plan()
        self._sampling: SamplingPlan | None = None
        self._sparse = sparsity is not None
        self._tokens = self._drafts = self._top_tokens = np.empty(0, np.int32)
        self._logprobs = self._top_logprobs = np.empty(0, np.float32)
        self._model = ctypes.c_void_p(self._library.r1_create(ctypes.byref(shape), threads))
        try:
            layers = _layers(description, with_draft_layer=with_draft_layer)
            for index, layer in enumerate(layers):
                draft = index >= len(description.layers)
                native_shape = layer_shape(layer)
                self._library.r1_add_layer(self._model, ctypes.byref(native_shape), draft)
            self._load(checkpoint, layers, codecs, residency)
            if sparsity is not None:
                self.set_sparsity(sparsity)
            self._check(self._library.r1_finish(self._model))
            self.set_gate(gate)
        except BaseException:
            self._destroy()
            raise

    def close(self) -> None:
        """Free the model. `expert_totals` keeps its last values."""
        with self._totals_lock:
            if self._model:
                self._totals = self._read_totals()
                self._destroy()

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._destroy()

    def _destroy(self) -> None:
        self._library.r1_destroy(self._model)
        self._model = ctypes.c_void_p()

    def set_threads(self, count: int) -> None:
        """Use `count` threads from the next step on."""
        self._library.r1_set_threads(self._model, count)

    def set_gate(self, gate: DynamicGate | None) -> None:
        """Choose the number of experts by `gate` from the next step on; None for the model's own."""
        mass, minimum, maximum = (
            (0, 1, 1) if gate is None else (gate.mass, gate.minimum, gate.maximum)
        )
        self._library.r1_set_expert_gate(self._model, mass, minimum, maximum)

    def expert_uses(self) -> Uses:
        """[layers, experts] tokens that each expert has computed; dense layers have zeros."""
        uses = np.zeros((len(self.expert_counts), max(self.expert_counts)), np.uint64)
        for layer, experts in enumerate(self.expert_counts):
            counts = np.zeros(experts, np.uint64)
            self._library.r1_expert_uses(self._model, layer, address(counts))
            uses[layer, :experts] = counts
        return uses

    def expert_totals(self) -> ExpertTotals:
        """What the experts have done; callable from any thread."""
        with self._totals_lock:
            return self._read_totals() if self._model else self._totals

    def evict_experts(self) -> None:
        """Take the packed file of the experts out of the page cache, for measurements."""
        self._library.r1_evict_experts(self._model)

    def _read_totals(self) -> ExpertTotals:
        if not any(self.expert_counts):
            return ExpertTotals()
        counts = np.zeros(7, np.uint64)
        self._library.r1_expert_totals(self._model, address(counts))
        return ExpertTotals(*counts.tolist())

    def set_sparsity(self, policy: DynamicSparseAttention) -> None:
        """Attend by this policy from the next step on.

        A backend without a policy at its construction has no summaries and cannot get one later.

        Raises:
            OptionError: the policy has head modes of another model.
        """
        heads = key_heads(self.description)
        native = native_sparsity(policy, heads)
        self._library.r1_set_sparsity(self._model, ctypes.byref(native), sum(heads))

    def _take_read_tokens(self) -> tuple[int, int]:
        read, context = ctypes.c_int64(), ctypes.c_int64()
        self._library.r1_take_read_slots(self._model, ctypes.byref(read), ctypes.byref(context))
        return read.value, context.value

    def release_cache(self) -> None:
        """Free the cache. No step can run until `allocate_cache`."""
        self._library.r1_release_cache(self._model)

    def allocate_cache(self) -> None:
        """Allocate the cache again, without content.

        Raises:
            MemoryError: it does not fit.
        """
        self._check(self._library.r1_allocate_cache(self._model))

    def step(self, plan: StepPlan) -> StepResult:
        """Compute a step; the interpreter lock is released meanwhile."""
        return self._step(plan, None)

    def step_with_logits(self, plan: StepPlan) -> tuple[StepResult, NDArray[np.float32]]:
        """A step and its logits [S, vocab], for tests and quality measurements."""
        logits = np.empty((len(plan.output_rows), self.description.vocab_size), np.float32)
        return self._step(plan, logits), logits

    def _step(self, plan: StepPlan, logits: NDArray[np.float32] | None) -> StepResult:
        sampling = plan.sampling
        outputs = len(plan.output_rows)
        native = self._plan
        native.rows = len(plan.tokens)
        native.sequences = len(plan.context_lengths)
        native.outputs = outputs
        inputs = self._set_inputs(plan)
        if sampling is not self._sampling:
            self._set_sampling(sampling)
        self._reserve_results(outputs, native.top_width)
        native.out_logits = address(logits)
        prompt_lengths = plan.generated_from() if self._sparse else None
        native.prompt_lengths = address(prompt_lengths)
        hidden_count = native.hidden_count = len(plan.hidden_rows)
        hidden = _NO_HIDDEN
        if hidden_count:
            hidden = np.empty((hidden_count, self.description.hidden_size), np.float32)
            native.hidden_rows, native.out_hidden = address(plan.hidden_rows), address(hidden)
        drafts = len(plan.next_tokens) > 0
        native.next_tokens = address(plan.next_tokens) if drafts else None
        self._check(self._library.r1_step(self._model, ctypes.byref(native)))
        reads = self._take_read_tokens() if self._sparse else (0, 0)
        del inputs, prompt_lengths  # the native step has read them
        tokens, logprobs = self._tokens[:outputs].copy(), self._logprobs[:outputs].copy()
        proposals = self._drafts[: outputs if drafts else 0].copy()
        width = native.top_width
        if not width:
            return StepResult(
                tokens, logprobs, hidden=hidden, drafts=proposals, attention_tokens=reads
            )
        counts = sampling.top_counts.clip(0, self.description.vocab_size).tolist()
        top_tokens = self._top_tokens[: outputs * width].reshape(outputs, width)
        top_logprobs = self._top_logprobs[: outputs * width].reshape(outputs, width)
        return StepResult(
            tokens,
            logprobs,
            tuple(row[:count].copy() for row, count in zip(top_tokens, counts, strict=True)),
            tuple(row[:count].copy() for row, count in zip(top_logprobs, counts, strict=True)),
            hidden,
            proposals,
            attention_tokens=reads,
        )

    def _set_inputs(self, plan: StepPlan) -> NDArray[np.int32]:
        """Put the plan's arrays behind each other: one address instead of seven look-ups."""
        arrays = [getattr(plan, name) for name in _INPUTS]
        joined = plan.joined
        if not all(array.base is joined for array in arrays):  # a plan built or changed by hand
            joined = np.concatenate(arrays)
        at = address(joined) or 0
        for name, array in zip(_INPUTS, arrays, strict=True):
            setattr(self._plan, name, at)
            at += 4 * len(array)
        return joined

    def _set_sampling(self, sampling: SamplingPlan) -> None:
        """Set the addresses of the sampling arrays. A step of greedy rows has the last step's plan."""
        self._sampling = sampling  # also keeps the arrays alive
        for name in _SAMPLING:
            setattr(self._plan, name, address(getattr(sampling, name)))
        bits = sampling.mask_bits
        self._plan.mask_words = bits.shape[1] if bits.size else 0
        self._plan.top_width = int(sampling.top_counts.max(initial=0))

    def _reserve_results(self, outputs: int, width: int) -> None:
        """Grow the arrays that the native step writes."""
        if outputs > len(self._tokens):
            self._tokens = np.empty(outputs, np.int32)
            self._logprobs = np.empty(outputs, np.float32)
            self._drafts = np.full(outputs, -1, np.int32)
            self._plan.out_drafts = address(self._drafts)
            self._plan.out_tokens = address(self._tokens)
            self._plan.out_logprobs = address(self._logprobs)
        if outputs * width > len(self._top_tokens):
            self._top_tokens = np.empty(outputs * width, np.int32)
            self._top_logprobs = np.empty(outputs * width, np.float32)
            self._plan.out_top_tokens = address(self._top_tokens)
            self._plan.out_top_logprobs = address(self._top_logprobs)

    def _check(self, status: int) -> None:
        if status:
            message = self._library.r1_error(self._model).decode()
            raise MemoryError(message) if "bad_alloc" in message else RuntimeError(message)

    def _load(
        self,
        checkpoint: Checkpoint,
        layers: Sequence[Layer],
        codecs: Codecs,
        residency: ExpertResidency | None,
    ) -> None:
        resident = None if residency is None else self._open_tiers(residency)
        for places in _matrices(_places(checkpoint, layers, codecs)):
            tensors = [checkpoint.tensor(place.name) for place in places]
            codec = _codec(places, tensors, checkpoint)
            for place, tensor in zip(places, tensors, strict=True):
                self._put(place, tensor, codec)
                checkpoint.release(tensor)
            first = places[0]
            routed = first.part in (Part.EXPERT_GATE, Part.EXPERT_DOWN)
            # Experts of the layer that drafts stay in memory.
            if resident is not None and routed and first.layer < len(self.description.layers):
                kept = bool(resident[first.layer][first.expert])
                self._check(
                    self._library.r1_store_expert(
                        self._model, first.layer, first.expert, first.part is Part.EXPERT_DOWN, kept
                    )
                )
        for index, layer in enumerate(layers):
            table = np.array(layer.attention.rope.inverse_frequencies, np.float32)
            stored = StoredTensor("rope", table.shape, Encoding.F32, table.view(np.uint8))
            self._put(_Place("rope", index, Part.ROPE), stored, Codec.FLOAT32)

    def _open_tiers(self, residency: ExpertResidency) -> list[NDArray[np.bool_]]:
        """Prepare the experts' file; which experts of each layer stay in memory."""
        self._check(self._library.r1_open_expert_file(self._model, os.fsencode(residency.folder)))
        self._library.r1_set_tiering(self._model, residency.prefetch, residency.promote)
        return residency.resident(self.expert_counts)

    def _put(self, place: _Place, tensor: StoredTensor, codec: Codec) -> None:
        source = _SOURCES.get(tensor.encoding)
        data: NDArray[Any] = tensor.data
        scale = tensor.scale
        if source is None:
            source, data, scale = Source.F32, decode(tensor), None
        rows, cols = tensor.shape if len(tensor.shape) == 2 else (1, tensor.shape[0])
        if not data.flags.c_contiguous:
            data = np.ascontiguousarray(data)
        self._check(
            self._library.r1_put(
                self._model,
                *(place.layer, place.part, place.expert, source, codec, rows, cols),
                *(place.offset, place.total, address(data), address(scale)),
            )
        )


def _codec(
    places: Sequence[_Place], tensors: Sequence[StoredTensor], checkpoint: Checkpoint
) -> Codec:
    """The packed form of a matrix: the widest that one of its tensors asks for.

    GGUF files often store `v_proj` with more bits than `q_proj` and `k_proj`.
    """
    like = places[0].like
    encodings = [one.encoding for one in tensors]
    wanted = [
        place.codec if place.codec is not None else stored_codec(encoding)
        for place, encoding in zip(
            places, [checkpoint.tensor(like).encoding] if like else encodings, strict=True
        )
    ]
    codec = max(wanted, key=lambda one: one.bits)
    # The blocks of float8 do not fit a transposed part, and no other encoding becomes float8.
    if codec is Codec.FLOAT8 and (like or any(one is not Encoding.F8_E4M3 for one in encodings)):
        return Codec.BFLOAT16
    return codec


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor goes. Several tensors may fill the rows of one matrix."""

    name: str
    layer: int
    part: Part
    codec: Codec | None = Codec.FLOAT32
    expert: int = 0
    offset: int = 0  # first row in the matrix
    total: int = 0  # rows of the matrix; 0 for those of the tensor
    like: str | None = None  # a tensor whose encoding decides where `codec` is None


_SECOND_HALVES = {
    Part.UP: Part.GATE,
    Part.EXPERT_UP: Part.EXPERT_GATE,
    Part.SHARED_UP: Part.SHARED_GATE,
}


def _matrices(places: Iterator[_Place]) -> Iterator[list[_Place]]:
    """The places of one matrix together: q, k and v, or gate and up."""
    for _, group in groupby(
        places, lambda one: (one.layer, _SECOND_HALVES.get(one.part, one.part), one.expert)
    ):
        yield list(group)


def _layers(description: ModelDescription, *, with_draft_layer: bool) -> tuple[Layer, ...]:
    """The layers to load; the one that drafts tokens is the last."""
    draft = description.draft_layer if with_draft_layer else None
    return description.layers if draft is None else (*description.layers, draft)


def _places(checkpoint: Checkpoint, layers: Sequence[Layer], codecs: Codecs) -> Iterator[_Place]:
    description, names = checkpoint.description, checkpoint.names()
    yield _Place("embed_tokens.weight", -1, Part.EMBEDDING, codecs.embedding)
    yield _Place("norm.weight", -1, Part.FINAL_NORM)
    if not description.tied_head:
        yield _Place("lm_head.weight", -1, Part.HEAD, codecs.embedding)
    for index, layer in enumerate(layers):
        prefix = f"layers.{index}."
        if index == len(description.layers):
            yield _Place(prefix + "enorm.weight", -1, Part.DRAFT_EMBEDDING_NORM)
            yield _Place(prefix + "hnorm.weight", -1, Part.DRAFT_STATE_NORM)
            name = prefix + "eh_proj.weight"
            yield _Place(name, -1, Part.DRAFT_PROJECTION, codecs.feed_forward)
            yield _Place(prefix + "shared_head.norm.weight", -1, Part.DRAFT_HEAD_NORM)
        yield _Place(prefix + "input_layernorm.weight", index, Part.ATTENTION_NORM)
        yield _Place(prefix + "post_attention_layernorm.weight", index, Part.FEED_FORWARD_NORM)
        if isinstance(layer.attention, LatentAttention):
            yield from _latent_places(layer.attention, index, names, codecs.attention)
        else:
            yield from _grouped_places(layer.attention, index, codecs.attention)
        yield from _feed_forward_places(layer, index, codecs)


def _grouped_places(
    attention: GroupedQueryAttention, index: int, codec: Codec | None
) -> Iterator[_Place]:
    prefix = f"layers.{index}.self_attn."
    sizes = [attention.heads, attention.kv_heads, attention.kv_heads]
    rows = [size * attention.head_dim for size in sizes]
    for number, letter in enumerate("qkv"):
        offset, total = sum(rows[:number]), sum(rows)
        name = f"{prefix}{letter}_proj."
        yield _Place(name + "weight", index, Part.INPUT, codec, 0, offset, total)
    for number, letter in enumerate("qkv" if attention.qkv_bias else ""):
        name = f"{prefix}{letter}_proj.bias"
        yield _Place(name, index, Part.INPUT_BIAS, offset=sum(rows[:number]))
    if attention.qk_norm:
        yield _Place(prefix + "q_norm.weight", index, Part.Q_NORM)
        yield _Place(prefix + "k_norm.weight", index, Part.K_NORM)
    yield _Place(prefix + "o_proj.weight", index, Part.OUTPUT, codec)
    if attention.output_bias:
        yield _Place(prefix + "o_proj.bias", index, Part.OUTPUT_BIAS)


def _latent_places(
    attention: LatentAttention, index: int, names: frozenset[str], codec: Codec | None
) -> Iterator[_Place]:
    prefix = f"layers.{index}.self_attn."
    rank = attention.q_lora_rank
    first = "q_proj" if rank is None else "q_a_proj"
    rows = attention.heads * attention.qk_head_dim if rank is None else rank
    total = rows + attention.latent_dim
    yield _Place(f"{prefix}{first}.weight", index, Part.INPUT, codec, 0, 0, total)
    second = prefix + "kv_a_proj_with_mqa."
    yield _Place(second + "weight", index, Part.INPUT, codec, 0, rows, total)
    if f"{prefix}{first}.bias" in names:
        yield _Place(f"{prefix}{first}.bias", index, Part.INPUT_BIAS)
    if attention.bias:
        yield _Place(second + "bias", index, Part.INPUT_BIAS, offset=rows)
    if rank is not None:
        yield _Place(prefix + "q_a_layernorm.weight", index, Part.Q_A_NORM)
        yield _Place(prefix + "q_b_proj.weight", index, Part.Q_B, codec)
    yield _Place(prefix + "kv_a_layernorm.weight", index, Part.KV_A_NORM)
    output = prefix + "o_proj.weight"
    # GGUF files have W_UK and W_UV apart, which the reader joins: their own encoding is lost.
    yield _Place(prefix + "kv_b_proj.weight", index, Part.KV_B, codec, like=output)
    yield _Place(output, index, Part.OUTPUT, codec)
    if attention.bias:
        yield _Place(prefix + "o_proj.bias", index, Part.OUTPUT_BIAS)


def _feed_forward_places(layer: Layer, index: int, codecs: Codecs) -> Iterator[_Place]:
    prefix = f"layers.{index}.mlp."
    feed_forward = layer.feed_forward
    if not isinstance(feed_forward, MixtureOfExperts):
        for kind, part in (("gate", Part.GATE), ("up", Part.UP), ("down", Part.DOWN)):
            yield _Place(f"{prefix}{kind}_proj.weight", index, part, codecs.feed_forward)
        return
    yield _Place(prefix + "gate.weight", index, Part.ROUTER)
    if feed_forward.correction_bias:
        yield _Place(prefix + "gate.e_score_correction_bias", index, Part.ROUTER_CORRECTION)
    parts = (("gate", Part.EXPERT_GATE), ("up", Part.EXPERT_UP), ("down", Part.EXPERT_DOWN))
    for expert in range(feed_forward.experts):
        for kind, part in parts:
            name = f"{prefix}experts.{expert}.{kind}_proj.weight"
            yield _Place(name, index, part, codecs.experts, expert)
    if feed_forward.shared_inner:
        shared = (("gate", Part.SHARED_GATE), ("up", Part.SHARED_UP), ("down", Part.SHARED_DOWN))
        for kind, part in shared:
            name = f"{prefix}shared_experts.{kind}_proj.weight"
            yield _Place(name, index, part, codecs.feed_forward)
