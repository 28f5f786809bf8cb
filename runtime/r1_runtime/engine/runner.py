"""Model runner: computes a scheduler's step and samples tokens. The only engine module with tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from r1_runtime.engine.sampling import generator_for, sample
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import SamplingParams, Sequence
from r1_runtime.layers.context import PrefillChunk, StepContext
from r1_runtime.models.deepseek_v3 import DeepseekV3


class Runner:
    """The model and its paged cache.

    Args:
        model: in inference mode, on its device.
        block_count: blocks of the cache.
        block_size: tokens per block.
    """

    def __init__(self, model: DeepseekV3, block_count: int, block_size: int) -> None:
        self.model = model
        self.block_size = block_size
        weight = model.embed_tokens.weight
        self.device = weight.device
        config = model.config
        slots = block_count * block_size
        shape = (config.num_hidden_layers, slots, config.latent_dim)
        self.caches = torch.zeros(shape, dtype=weight.dtype, device=self.device)
        self._generators: dict[str, torch.Generator | None] = {}
        self._in_block = torch.arange(block_size)

    def execute(self, step: Step) -> list[tuple[Sequence, int | None]]:
        """Compute the step; return (sequence, next token) for the chunks that sample.

        The token is None where the logits are not finite.
        The step's decode chunks come first, as `Scheduler.schedule` orders them.
        """
        tokens, context = self.prepare(step)
        logits = self.model.forward_paged(tokens, self.caches, context)
        sequences = [chunk.sequence for chunk in step.chunks if chunk.samples]
        if not sequences:
            return []
        generators = [self._generator(sequence) for sequence in sequences]
        sampled = sample(logits, [sequence.params for sequence in sequences], generators)
        return list(zip(sequences, sampled, strict=True))

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
        self._generators.pop(sequence.id, None)

    def _generator(self, sequence: Sequence) -> torch.Generator | None:
        if sequence.id not in self._generators:
            self._generators[sequence.id] = generator_for(sequence.params, str(self.device))
        return self._generators[sequence.id]

    def prepare(self, step: Step) -> tuple[Tensor, StepContext]:
        """The step's tokens [T] and its context for the layers."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[Tensor] = []
        prefill: list[PrefillChunk] = []
        decode: list[Tensor] = []
        sample_rows: list[int] = []
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
            if chunk.samples:
                sample_rows.append(len(tokens) - 1)
        context, mask = self._decode_context(decode)
        return torch.tensor(tokens, device=self.device), StepContext(
            positions=torch.tensor(positions, device=self.device),
            slots=torch.cat(slots).to(self.device),
            decode=len(decode),
            decode_context=context,
            decode_mask=mask,
            prefill=tuple(prefill),
            sample_rows=torch.tensor(sample_rows, device=self.device, dtype=torch.long),
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
