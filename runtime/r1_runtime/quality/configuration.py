"""A configuration loaded for an evaluation, and what its steps read from memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from r1_runtime.architecture.description import MixtureOfExperts, ModelDescription
from r1_runtime.backends.step_plan import Backend
from r1_runtime.config import R1Config
from r1_runtime.errors import RankLostError
from r1_runtime.generation_config import read_generation_defaults
from r1_runtime.quality.forced_steps import ForcedDecoder
from r1_runtime.quality.size import EvaluationSize
from r1_runtime.server.backend_loading import BackendLoader
from r1_runtime.server.loading import backend_plan, open_and_choose
from r1_runtime.server.options import serve_options
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.open import open_tokenizer

_UNLIMITED = 2**31


@dataclass(frozen=True, slots=True)
class MemoryTraffic:
    """Bytes that one decoded token reads, at one stream.

    Attributes:
        weights: of all matrices; of a mixture, of the experts that run.
        cache_per_token: of each token before it, in all layers.
    """

    weights: int
    cache_per_token: int

    def at(self, context: int, read_share: float = 1.0) -> float:
        """Bytes at a context length, with the share of its tokens that attention reads."""
        return self.weights + context * read_share * self.cache_per_token


@dataclass(slots=True)
class LoadedConfiguration:
    """A backend with its cache, alone in this process: no scheduler, no HTTP.

    Attributes:
        config: what it was made from.
        backend: loaded.
        tokenizer: of the model.
        decoder: the sequences in the cache.
        vocabulary: number of tokens.
        size: of the evaluation, within the positions of the model.
        traffic: bytes per token.
        reasons: the choices of backend, packed form and cache, in words.
    """

    config: R1Config
    backend: Backend
    tokenizer: ChatTokenizer
    decoder: ForcedDecoder
    vocabulary: int
    size: EvaluationSize
    traffic: MemoryTraffic
    reasons: tuple[str, ...]

    def close(self) -> None:
        """Free the model."""
        self.backend.close()


def load_configuration(config: R1Config, size: EvaluationSize) -> LoadedConfiguration:
    """Load a configuration.

    Args:
        config: the model and how it is computed. Its cache and seats are replaced by what the evaluation
            needs, and one thread is the default.
        size: of the evaluation.

    Raises:
        ModelLoadError: the checkpoint does not load.
        OptionError: an option does not fit the model or this machine.
    """
    options = serve_options(config)
    path, checkpoint, choice = open_and_choose(options)
    description = checkpoint.description
    size = size.within(min(config.max_model_len or _UNLIMITED, description.max_positions))
    options = dataclasses.replace(
        options,
        max_model_len=size.longest,
        num_blocks=-(-size.most_tokens // config.block_size),
        max_num_seqs=8,
        threads=config.threads or 1,
    )
    path, checkpoint, choice = open_and_choose(options)
    plan, need = backend_plan(options, path, checkpoint, choice)
    backend = BackendLoader(plan, _raise).load()
    ends = (*description.eos_token_ids, *read_generation_defaults(path).eos_ids)
    decoder = ForcedDecoder(
        backend,
        blocks=plan.blocks,
        block_size=config.block_size,
        step_tokens=config.max_step_tokens,
    )
    traffic = MemoryTraffic(
        int(need.weights * read_share(description)), need.block // config.block_size
    )
    return LoadedConfiguration(
        config,
        backend,
        open_tokenizer(path, description.vocab_size, ends),
        decoder,
        description.vocab_size,
        size,
        traffic,
        choice.reasons,
    )


def read_share(description: ModelDescription) -> float:
    """Share of a model's parameters that one token reads.

    An embedding that is not also the output head is read for one row only; a mixture reads the experts
    that run.
    """
    total = description.parameter_count()
    idle = 0 if description.tied_head else description.vocab_size * description.hidden_size
    for layer in description.layers:
        feed_forward = layer.feed_forward
        if isinstance(feed_forward, MixtureOfExperts):
            resting = feed_forward.experts - feed_forward.experts_per_token
            idle += 3 * feed_forward.inner * description.hidden_size * resting
    return (total - idle) / total


def _raise(error: RankLostError) -> None:
    raise error
