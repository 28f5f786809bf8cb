"""From a choice of backend to a loaded backend, also again after a sleep.

torch is imported for the backends `cuda` and `reference` only: the import takes seconds and hundreds
of MiB.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1_runtime.backends.adaptive_threads import AdaptiveThreads, ThreadChoice
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.group import RankGroup, check_gpus
from r1_runtime.backends.selection import BackendChoice
from r1_runtime.backends.step_plan import Backend
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.errors import OptionError, RankLostError
from r1_runtime.experts.residency import ExpertTotals
from r1_runtime.server.expert_policy import ALL_EXPERTS, ExpertPolicy
from r1_runtime.server.memory import Sizes, available_memory

if TYPE_CHECKING:
    from r1_runtime.backends.parallel.leader import ParallelBackend

Lost = Callable[[RankLostError], None]


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """What is loaded.

    Attributes:
        path: of the model; the other ranks of a divided model open it again.
        checkpoint: the open model.
        choice: what computes it.
        group: the ranks that compute it.
        sizes: of steps and sequences.
        blocks: blocks of the cache.
        threads: CPU threads of each rank.
        with_draft_layer: load the layer that drafts tokens.
        experts: how many experts a token uses, and where they are.
    """

    path: Path
    checkpoint: Checkpoint
    choice: BackendChoice
    group: RankGroup
    sizes: Sizes
    blocks: int
    threads: int
    with_draft_layer: bool
    experts: ExpertPolicy = ALL_EXPERTS


class BackendLoader:
    """Loads the backend of one plan.

    Args:
        plan: what is loaded.
        lost: called when another rank of a divided model ends.
        counts: the thread count that loaded backends follow; None keeps the plan's.
    """

    def __init__(self, plan: BackendPlan, lost: Lost, counts: ThreadChoice | None = None) -> None:
        self._plan, self._lost = plan, lost
        self._divided: ParallelBackend | None = None
        self._native: CpuBackend | None = None
        self._counts = counts

    def load(self) -> Backend:
        """The backend with weights and cache.

        Raises:
            ModelLoadError: the checkpoint does not load.
            RankLostError: another rank did not start or did not load.
        """
        plan = self._plan
        if plan.group.layout.ranks > 1:
            self._divided = _divided(plan, self._lost)
            return self._divided
        if plan.choice.backend == "cuda":
            return _cuda(plan)
        if plan.choice.backend == "reference":
            return self._following_threads(_reference(plan))
        self._native = _native(plan)
        return self._following_threads(self._native)

    def _following_threads(self, backend: Backend) -> Backend:
        return backend if self._counts is None else AdaptiveThreads(backend, self._counts)

    def expert_totals(self) -> ExpertTotals:
        """What the experts of the native backend have done since it was loaded."""
        return ExpertTotals() if self._native is None else self._native.expert_totals()

    def end_ranks(self) -> None:
        """End the other ranks of a divided model."""
        if self._divided is not None:
            self._divided.close()


def _native(plan: BackendPlan) -> CpuBackend:
    return CpuBackend(
        plan.checkpoint,
        codecs=plan.choice.codecs,
        cache_type=plan.choice.cache_type,
        blocks=plan.blocks,
        block_size=plan.sizes.block_size,
        max_positions=plan.sizes.max_model_len,
        threads=plan.threads,  # weights are packed by all
        with_draft_layer=plan.with_draft_layer,
        gate=plan.experts.gate,
        residency=plan.experts.residency,
        sparsity=plan.choice.sparsity,
    )


def _cuda(plan: BackendPlan) -> Backend:
    import torch

    from r1_runtime.backends.cuda.backend import CudaBackend

    return CudaBackend(
        plan.checkpoint,
        blocks=plan.blocks,
        block_size=plan.sizes.block_size,
        max_positions=plan.sizes.max_model_len,
        max_sequences=plan.sizes.max_num_seqs,
        device=plan.choice.device,
        dtype=getattr(torch, plan.choice.dtype),
        int4_experts=plan.choice.int4_experts,
    )


def _reference(plan: BackendPlan) -> Backend:
    import torch

    from r1_runtime.backends.reference.backend import ReferenceBackend
    from r1_runtime.backends.reference.loading import load_network

    network = load_network(
        plan.checkpoint,
        dtype=getattr(torch, plan.choice.dtype),
        device=plan.choice.device,
        with_draft_layer=plan.with_draft_layer,
        gate=plan.experts.gate,
    )
    return ReferenceBackend(
        network, plan.blocks, plan.sizes.block_size, sparsity=plan.choice.sparsity
    )


def _divided(plan: BackendPlan, lost: Lost) -> ParallelBackend:
    """A model over several ranks, all of them loaded."""
    from r1_runtime.backends.parallel.leader import start_parallel

    assignment = Assignment(
        model=str(plan.path),
        layout=plan.group.layout,
        positions=plan.sizes.max_model_len,
        dtype=plan.choice.dtype,
        device=plan.choice.device,
        blocks=plan.blocks,
        block_size=plan.sizes.block_size,
        threads=plan.threads,
    )
    return start_parallel(plan.group, assignment, lost)


def prepare_torch(choice: BackendChoice, group: RankGroup, threads: int) -> None:
    """Import torch with its settings; refuse GPUs that it cannot use or that would stay idle.

    Raises:
        OptionError: the ranks on this machine do not use each visible GPU once.
    """
    _prepare_environment(threads)
    import torch

    if choice.device != "cpu":
        if not torch.cuda.is_available():
            raise OptionError(
                f"command line: --device {choice.device} is not available here: torch has 0 GPUs."
                " Fix: --device cpu."
            )
        check_gpus(group, choice.device, torch.cuda.device_count())
    torch.set_num_threads(threads)


def _prepare_environment(threads: int) -> None:
    """Set the environment variables that thread pools read when torch is imported.

    OpenMP threads spin while they wait for work, by default for milliseconds. On cores that other
    processes use too, the spinning makes a step many times slower. Without spinning, the kernel
    wakes the threads for each of a step's hundreds of short parallel sections. Threads therefore
    spin for about the pause between two sections (tens of microseconds). GNU OpenMP (torch's build)
    reads GOMP_SPINCOUNT; Intel's and LLVM's read KMP_BLOCKTIME in milliseconds. Variables that are
    already set stay unchanged.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        os.environ.setdefault("KMP_BLOCKTIME", "0")


def available_bytes(choice: BackendChoice) -> int | None:
    """Available bytes for weights and cache: of the GPU, or of this process."""
    if choice.device == "cpu":
        return available_memory()
    import torch

    return int(torch.cuda.mem_get_info(choice.device)[0])
