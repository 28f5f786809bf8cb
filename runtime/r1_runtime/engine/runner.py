"""Model runner: computes a scheduler's step and samples tokens. The only engine module with tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.step_plan import StepResult
from r1_runtime.engine.messages import SampledRow, TokenLogprobs
from r1_runtime.engine.sampling_arrays import SamplingRow, SequenceSampling, build_sampling_plan
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import Sequence
from r1_runtime.layers.context import PrefillChunk, StepContext
from r1_runtime.models.deepseek_v3 import DeepseekV3


class Runner:
    """The model and its paged cache.

    Args:
        model: in inference mode, on its device.
        block_count: blocks of the cache.
        block_size: tokens per block.
        end_tokens: tokens that end an output; `min_tokens` excludes them.
    """

    def __init__(
        self,
        model: DeepseekV3,
        block_count: int,
        block_size: int,
        end_tokens: Iterable[int] = (),
    ) -> None:
        self.model = model
        self.block_size = block_size
        weight = model.embed_tokens.weight
        self.device = weight.device
        config = model.config
        slots = block_count * block_size
        shape = (config.num_hidden_layers, slots, config.latent_dim)
        self.caches = torch.zeros(shape, dtype=weight.dtype, device=self.device)
        self._end_tokens = tuple(end_tokens)
        self._sampling: dict[str, SequenceSampling] = {}
        self._in_block = torch.arange(block_size)

    def execute(self, step: Step) -> list[SampledRow]:
        """Compute the step; return its output rows.

        The step's decode chunks come first, as `Scheduler.schedule` orders them.
        """
        tokens, context = self.prepare(step)
        logits = self.model.forward_paged(tokens, self.caches, context)
        places = [place for chunk in step.chunks for place in self._output_rows(chunk)]
        if not places:
            return []
        plan = build_sampling_plan([self._sampling_row(*place) for place in places])
        result = sample_rows(logits.cpu().numpy(), plan)
        return [_sampled(result, row, *place) for row, place in enumerate(places)]

    def warm_up(self) -> None:
        """Run one prefill and one decode step, so that no request waits for first-time set-up."""
        sequence = Sequence(
            "warm-up",
            [0, 0],
            2,
            SamplingParams(temperature=0),
            0.0,
            [0, 1][: -(-2 // self.block_size)],
        )
        self.execute(Step((Chunk(sequence, 0, 1),)))
        self.execute(Step((Chunk(sequence, 1, 1),)))
        self.release(sequence)

    def dummy_run(self, prefill: int, decode: int) -> None:
        """Compute a prompt and `decode` tokens after it, on the cache's first blocks.

        The prompt has at most `prefill` tokens, fewer where cache or model are smaller.
        """
        length = min(
            prefill + decode, self.caches.shape[1], self.model.config.max_position_embeddings
        )
        blocks = list(range(-(-length // self.block_size)))
        greedy = SamplingParams(temperature=0)
        sequence = Sequence("dummy-run", [0] * length, length, greedy, 0.0, blocks)
        start = max(1, length - decode)
        self.execute(Step((Chunk(sequence, 0, start),)))
        for at in range(start, length):
            self.execute(Step((Chunk(sequence, at, 1),)))
        self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free the state of a sequence that has ended."""
        self._sampling.pop(sequence.id, None)

    def _sampling_row(self, sequence: Sequence, position: int) -> SamplingRow:
        state = self._sampling.get(sequence.id)
        if state is None:
            state = SequenceSampling(sequence.params, sequence.prompt_length, self._end_tokens)
            self._sampling[sequence.id] = state
        if position < len(sequence.tokens):
            target = sequence.tokens[position]
            return SamplingRow(state, position, target, sequence.params.prompt_logprobs or 0)
        state.advance(sequence.tokens)
        mask = None if sequence.constraint is None else sequence.constraint.mask()
        top_count = sequence.params.logprobs or 0
        return SamplingRow(state, position, top_count=top_count, mask=mask)

    def _output_rows(self, chunk: Chunk) -> list[tuple[Sequence, int]]:
        """(sequence, position of the token) of each output row of a chunk."""
        sequence, end = chunk.sequence, chunk.start + chunk.count
        scored = 0 if sequence.params.prompt_logprobs is None else sequence.prompt_length
        positions = range(chunk.start + 1, min(end + 1, scored))
        rows = [(sequence, position) for position in positions]
        return [*rows, (sequence, end)] if chunk.samples else rows

    def prepare(self, step: Step) -> tuple[Tensor, StepContext]:
        """The step's tokens [T] and its context for the layers."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[Tensor] = []
        prefill: list[PrefillChunk] = []
        decode: list[Tensor] = []
        rows: list[int] = []
        for chunk in step.chunks:
            end = chunk.start + chunk.count
            known = self._slots(chunk.sequence, end)
            row = len(tokens)
            tokens += chunk.sequence.tokens[chunk.start : end]
            positions += range(chunk.start, end)
            slots.append(known[chunk.start :])
            if _decodes(chunk):
                decode.append(known)
            else:
                prefill.append(PrefillChunk(row, len(tokens), known.to(self.device)))
            first = row - chunk.start - 1
            rows += [first + position for _, position in self._output_rows(chunk)]
        context, mask = self._decode_context(decode)
        return torch.tensor(tokens, device=self.device), StepContext(
            positions=torch.tensor(positions, device=self.device),
            slots=torch.cat(slots).to(self.device),
            decode=len(decode),
            decode_context=context,
            decode_mask=mask,
            prefill=tuple(prefill),
            sample_rows=torch.tensor(rows, device=self.device, dtype=torch.long),
        )

    def _slots(self, sequence: Sequence, length: int) -> Tensor:
        """Cache slots of the sequence's first `length` tokens."""
        blocks = torch.tensor(sequence.blocks[: -(-length // self.block_size)])
        return (blocks.unsqueeze(1) * self.block_size + self._in_block).flatten()[:length]

    def _decode_context(self, known: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        if not known:
            return None, None
        lengths = torch.tensor([len(slots) for slots in known])
        longest = int(lengths.max())
        context = torch.nn.utils.rnn.pad_sequence(known, batch_first=True)
        if bool((lengths == longest).all()):
            return context.to(self.device), None
        mask = torch.arange(longest) < lengths.unsqueeze(1)
        # Padded with a slot of the same sequence: a non-finite value passes through a mask, so the
        # padding must not come from another sequence.
        context = torch.where(mask, context, context[:, :1])
        return context.to(self.device), mask[:, None, None, :].to(self.device)


def _decodes(chunk: Chunk) -> bool:
    return chunk.count == 1 and chunk.start > 0


def _sampled(result: StepResult, row: int, sequence: Sequence, position: int) -> SampledRow:
    """The engine's form of one output row."""
    token = int(result.tokens[row])
    scored = position if position < len(sequence.tokens) else None
    if token < 0:
        return SampledRow(sequence, None, scored=scored)
    params = sequence.params
    if (params.logprobs if scored is None else params.prompt_logprobs) is None:
        return SampledRow(sequence, token, scored=scored)
    tops = zip(result.top_tokens[row].tolist(), result.top_logprobs[row].tolist(), strict=True)
    return SampledRow(
        sequence, token, TokenLogprobs(token, float(result.logprobs[row]), tuple(tops)), scored
    )
