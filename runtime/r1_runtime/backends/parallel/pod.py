"""The ranks of a pod other than the first of its group: processes that wait for the leader."""

from __future__ import annotations

import logging

from r1_runtime.backends.parallel.group import LEADER_PORT, RankGroup, check_gpus
from r1_runtime.backends.parallel.processes import end_ranks, start_ranks
from r1_runtime.backends.parallel.worker import CONNECT_SECONDS, ignore_signals, run_worker
from r1_runtime.backends.torch_package import torch_installed, torch_missing
from r1_runtime.errors import RuntimeFault

_log = logging.getLogger("r1_runtime")


def run_pod(group: RankGroup, device: str) -> int:
    """Compute the ranks of this pod until the leader stops them; the exit code.

    Args:
        group: of this process.
        device: the option; the leader decides, and GPUs are compared with the ranks here.

    Raises:
        OptionError: this pod has more or fewer GPUs than ranks, or no torch.
        StartRefusedError: the leader does not start.
        RankLostError: the leader has lost another rank before the first step.
    """
    if not torch_installed():
        raise torch_missing(f"a model over {group.layout.ranks} ranks", "one pod")
    import torch

    if device != "cpu" and torch.cuda.is_available():
        check_gpus(group, "cuda", torch.cuda.device_count())
    ignore_signals()
    local = group.local_ranks
    _log.info("Ranks %d to %d wait for %s", local.start, local.stop - 1, group.leader)
    processes = start_ranks(group.leader, LEADER_PORT, local[1:], local.start, wait=True)
    try:
        run_worker(group.leader, LEADER_PORT, local.start, 0, CONNECT_SECONDS)
    except RuntimeFault:
        for process in processes.values():  # which wait for the same leader
            process.kill()
        raise
    except Exception:  # noqa: BLE001  (any failure ends this pod)
        _log.exception("Rank %d has failed", local.start)
        return 1
    finally:
        end_ranks(list(processes.values()))
    return 0
