"""The processes of one model: how many ranks, on how many machines, and which are here.

On one machine the server starts the other ranks itself. A LeaderWorkerSet gives every pod of a group
its place by environment variables; each pod then holds an equal part of the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.errors import OptionError

LEADER_PORT = 29500  # of a leader that waits for other pods; torchrun's port

_ADDRESS, _SIZE, _INDEX = "LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"


@dataclass(frozen=True, slots=True)
class RankGroup:
    """The ranks of one model.

    Attributes:
        layout: division of the model.
        pods: pods that share the ranks.
        pod: number of this pod; 0 schedules and serves HTTP.
        leader: address of pod 0.
    """

    layout: ParallelLayout
    pods: int = 1
    pod: int = 0
    leader: str = "127.0.0.1"

    @property
    def local_ranks(self) -> range:
        """The ranks on this machine."""
        each = self.layout.ranks // self.pods
        return range(self.pod * each, (self.pod + 1) * each)


def rank_group(
    tensor: int, pipeline: int | None, whole_experts: bool, environment: Mapping[str, str]
) -> RankGroup:
    """The group from the command line and the environment of a LeaderWorkerSet.

    Args:
        tensor: ranks per stage.
        pipeline: stages; None for one per pod.
        whole_experts: ranks hold whole experts.
        environment: variables of the process.

    Raises:
        OptionError: the variables are not those of a LeaderWorkerSet, or the pods cannot share the
            ranks equally.
    """
    pods, pod = _number(environment, _SIZE, 1), _number(environment, _INDEX, 0)
    if not 0 <= pod < max(pods, 1):
        raise OptionError(f"environment: {_INDEX} is {pod}, but {_SIZE} is {pods}.")
    leader = environment.get(_ADDRESS, "")
    if pods > 1 and not leader:
        raise OptionError(
            f"environment: {_SIZE} is {pods}, but {_ADDRESS} is missing. Fix: set it to the address "
            "of pod 0."
        )
    layout = ParallelLayout(tensor, max(pods, 1) if pipeline is None else pipeline, whole_experts)
    if layout.ranks % max(pods, 1):
        raise OptionError(
            f"command line: --tensor-parallel-size {layout.tensor} times --pipeline-parallel-size "
            f"{layout.pipeline} is {layout.ranks} ranks, which {pods} pods ({_SIZE}) cannot share "
            f"equally. Fix: a multiple of {pods}."
        )
    return RankGroup(layout, pods, pod, leader) if pods > 1 else RankGroup(layout)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise OptionError(f"environment: {name} is {text!r}; it must be a number.")
    return int(text)


def check_gpus(group: RankGroup, device: str, visible: int) -> None:
    """Raise OptionError where the ranks on this machine do not use each visible GPU once.

    Args:
        group: the ranks.
        device: `cuda` for all GPUs, or `cuda:N` for one of them.
        visible: GPUs that this process sees.
    """
    ranks = len(group.local_ranks)
    if ":" in device:
        if ranks > 1:
            raise OptionError(
                f"command line: --device {device} is one GPU, but {ranks} ranks run here. Fix: "
                "--device cuda, and CUDA_VISIBLE_DEVICES to choose GPUs."
            )
        number = int(device.partition(":")[2])
        if number >= visible:
            raise OptionError(
                f"command line: --device {device} is not available here: {visible} GPUs are visible. "
                "Fix: a lower number."
            )
        return
    if visible < ranks:
        raise OptionError(
            f"command line: {ranks} ranks (--tensor-parallel-size times --pipeline-parallel-size) "
            f"run here and need a GPU each, but {visible} are visible. Fix: fewer ranks, or more "
            "GPUs in spec.resources."
        )
    if visible > ranks:
        raise OptionError(
            f"command line: {visible} GPUs are visible, but {ranks} would be used. Fix: "
            f"--tensor-parallel-size {visible} (or fewer, times --pipeline-parallel-size), fewer "
            "GPUs in spec.resources, or CUDA_VISIBLE_DEVICES."
        )
