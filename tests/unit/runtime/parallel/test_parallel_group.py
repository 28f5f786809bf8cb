"""Ranks on one machine and over the pods of a LeaderWorkerSet; GPUs beside ranks."""

from __future__ import annotations

import numpy as np
import pytest

from paged_steps import Row, step_plan
from r1_runtime.backends.parallel.group import check_gpus, rank_group
from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.parallel.plan_bytes import decode_plan, encode_plan
from r1_runtime.errors import OptionError


def environment(size: str, index: str) -> dict[str, str]:
    address = "r1-0.r1.team.svc"
    return {"LWS_LEADER_ADDRESS": address, "LWS_GROUP_SIZE": size, "LWS_WORKER_INDEX": index}


def test_without_a_leader_worker_set_all_ranks_are_here() -> None:
    group = rank_group(4, 2, True, {})
    assert group.layout == ParallelLayout(4, 2, True)
    assert (list(group.local_ranks), group.pod, group.leader) == (list(range(8)), 0, "127.0.0.1")


def test_each_pod_of_a_leader_worker_set_is_a_stage_by_default() -> None:
    group = rank_group(8, None, False, environment("2", "1"))
    assert group.layout == ParallelLayout(8, 2)
    assert group.local_ranks == range(8, 16)
    assert {group.layout.place(rank).stage for rank in group.local_ranks} == {1}
    assert group.leader == "r1-0.r1.team.svc"


def test_a_stage_may_extend_over_pods() -> None:
    assert rank_group(16, 1, False, environment("2", "1")).local_ranks == range(8, 16)


def test_a_leader_worker_set_of_one_pod_is_one_machine() -> None:
    group = rank_group(2, None, False, environment("1", "0"))
    assert (group.pods, group.leader, group.layout.pipeline) == (1, "127.0.0.1", 1)


@pytest.mark.parametrize(
    ("variables", "sizes", "words"),
    [
        (environment("2", "2"), (1, None), "LWS_WORKER_INDEX is 2, but LWS_GROUP_SIZE is 2"),
        (environment("x", "0"), (1, None), "LWS_GROUP_SIZE is 'x'"),
        ({"LWS_GROUP_SIZE": "2"}, (1, None), "LWS_LEADER_ADDRESS is missing"),
        (environment("2", "0"), (3, 1), "is 3 ranks, which 2 pods"),
    ],
)
def test_an_environment_that_is_no_group_is_refused(
    variables: dict[str, str], sizes: tuple[int, int | None], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        rank_group(*sizes, False, variables)


@pytest.mark.parametrize(
    ("ranks", "device", "visible", "words"),
    [
        (1, "cuda", 8, "8 GPUs are visible, but 1 would be used.*--tensor-parallel-size 8"),
        (4, "cuda", 8, "8 GPUs are visible, but 4 would be used"),
        (8, "cuda", 4, "8 ranks.*need a GPU each, but 4 are visible"),
        (2, "cuda:1", 2, "one GPU, but 2 ranks"),
        (1, "cuda:2", 2, "cuda:2 is not available here: 2 GPUs"),
    ],
)
def test_gpus_that_would_stay_idle_or_are_missing_are_refused(
    ranks: int, device: str, visible: int, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        check_gpus(rank_group(ranks, 1, False, {}), device, visible)


@pytest.mark.parametrize(("ranks", "device", "visible"), [(1, "cuda", 1), (8, "cuda", 8)])
def test_a_rank_for_each_gpu_is_accepted(ranks: int, device: str, visible: int) -> None:
    check_gpus(rank_group(ranks, 1, False, {}), device, visible)


def test_one_gpu_of_several_may_be_chosen() -> None:
    check_gpus(rank_group(1, 1, False, {}), "cuda:3", 8)


def test_each_pod_compares_its_own_ranks_with_its_own_gpus() -> None:
    check_gpus(rank_group(8, None, False, environment("2", "1")), "cuda", 8)


def test_a_plan_is_the_same_after_its_way_as_bytes() -> None:
    plan = step_plan([Row(range(40), 3, 20, [5, 2, 9]), Row([7, 8], 1, 2, [1])])
    received = decode_plan(encode_plan(plan))
    for name in ("tokens", "positions", "query_starts", "context_lengths", "output_rows"):
        assert np.array_equal(getattr(received, name), getattr(plan, name)), name
    assert received.blocks.tolist() == plan.blocks.tolist() == [5, 2, 1]
    assert received.block_starts.tolist() == plan.block_starts.tolist()
