"""The check of the memory: what is needed, what is there, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from r1_runtime.config import read_config
from r1_runtime.errors import OptionError
from r1_runtime.server.memory import Sizes, available_memory, fitting_blocks, memory_need
from r1_runtime.server.options import resolve_model

CONFIG = read_config(resolve_model("bundled:demo"))
SIZES = Sizes(
    max_num_seqs=8, max_model_len=2048, max_step_tokens=256, block_size=16, num_blocks=None
)
MIB = 2**20


def test_the_figures_follow_the_model_s_shape() -> None:
    need = memory_need(CONFIG, SIZES, "float32")
    assert need.weights == 4 * CONFIG.parameter_count()
    assert need.block == 4 * 16 * 80 * 4  # layers, tokens, latent and rotary floats, bytes
    assert need.step > 8 * 2048 * 80 * 4  # the gathered cache of one layer
    half = memory_need(CONFIG, SIZES, "bfloat16")
    assert (half.weights, half.block) == (need.weights // 2, need.block // 2)


def test_every_seat_is_full_where_the_memory_allows_it_or_is_not_known() -> None:
    need = memory_need(CONFIG, SIZES, "float32")
    assert fitting_blocks(need, SIZES, 64 * 2**30) == 8 * 128
    assert fitting_blocks(need, SIZES, None) == 8 * 128


def test_without_a_number_of_blocks_as_many_as_fit_are_taken() -> None:
    need = memory_need(CONFIG, SIZES, "float32")
    assert fitting_blocks(need, SIZES, need.total(500) + 1) == 500
    assert fitting_blocks(need, SIZES, need.total(128)) == 128
    with pytest.raises(OptionError, match=r"memory limit of at least .* GiB"):
        fitting_blocks(need, SIZES, need.total(127))


def test_a_number_of_blocks_that_does_not_fit_is_refused_with_the_one_that_does() -> None:
    sizes = replace(SIZES, num_blocks=1000)
    need = memory_need(CONFIG, sizes, "float32")
    assert fitting_blocks(need, sizes, need.total(1000)) == 1000
    with pytest.raises(OptionError, match=r"Fix: --num-blocks at most 999, or a memory limit"):
        fitting_blocks(need, sizes, need.total(1000) - 1)
    with pytest.raises(OptionError, match=r"--num-blocks 100 holds 1600 tokens"):
        fitting_blocks(need, replace(sizes, num_blocks=100), None)


def test_many_long_seats_are_refused_by_the_memory_of_one_step() -> None:
    sizes = replace(SIZES, max_num_seqs=4096)
    need = memory_need(CONFIG, sizes, "float32")
    with pytest.raises(OptionError, match="a lower --max-model-len or --max-num-seqs"):
        fitting_blocks(need, sizes, 2 * 2**30)


def test_weights_that_do_not_fit_ask_for_memory_only() -> None:
    need = memory_need(CONFIG, SIZES, "float32")
    with pytest.raises(OptionError, match="Fix: a memory limit of at least"):
        fitting_blocks(need, SIZES, need.weights)


def tree(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cgroup"


MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 1048576 kB\n"


def test_the_machine_s_available_memory_counts_without_a_limit(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a\n", "cgroup/a/memory.max": "max\n"}
    assert available_memory(*tree(tmp_path, files)) == 1024 * MIB
    assert available_memory(tmp_path / "nothing", tmp_path / "nowhere") is None


@pytest.mark.parametrize("inside", ["", "pod/container/"])
def test_the_limit_of_cgroup_version_2_counts_less_what_is_used(
    tmp_path: Path, inside: str
) -> None:
    """In a container only the mount point exists; on a node the whole path does."""
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/pod/container\n",
        f"cgroup/{inside}memory.max": str(512 * MIB),
        f"cgroup/{inside}memory.current": str(200 * MIB),
        f"cgroup/{inside}memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
    }
    assert available_memory(*tree(tmp_path, files)) == 412 * MIB


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "cgroup/pod/container/memory.max": "max",
        "cgroup/pod/container/memory.current": str(10 * MIB),
        "cgroup/pod/memory.max": str(300 * MIB),
        "cgroup/pod/memory.current": str(100 * MIB),
    }
    assert available_memory(*tree(tmp_path, files)) == 200 * MIB


def test_the_limit_of_cgroup_version_1_counts_less_what_is_used(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/pod\n0::/\n",
        "cgroup/memory/pod/memory.limit_in_bytes": str(512 * MIB),
        "cgroup/memory/pod/memory.usage_in_bytes": str(600 * MIB),
        "cgroup/memory/pod/memory.stat": f"total_inactive_file {50 * MIB}\n",
    }
    assert available_memory(*tree(tmp_path, files)) == 0
    (tmp_path / "cgroup/memory/pod/memory.limit_in_bytes").write_text("9223372036854771712")
    assert available_memory(*tree(tmp_path, {})) == 1024 * MIB
