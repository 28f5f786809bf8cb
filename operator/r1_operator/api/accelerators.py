"""Names of container resources that are accelerators, by the device plugins of the vendors.

Each resource counts whole devices. A MIG profile and a time-sliced share count as one device each.
The operator setting `R1_ACCELERATORS` adds names.
"""

from collections.abc import Collection
from typing import Final

GPU: Final = "nvidia.com/gpu"

WHOLE_GPUS: Final = frozenset({GPU, "amd.com/gpu"})
"""Resources of which one process per device can compute one model together."""

NAMES: Final = (
    GPU,
    "nvidia.com/gpu.shared",
    "amd.com/gpu",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
    "habana.ai/gaudi",
    "google.com/tpu",
)
PREFIXES: Final = ("nvidia.com/mig-", "aws.amazon.com/neuron")
"""Prefixes of names: MIG profiles; neuron, neuroncore and neurondevice."""

_TAINTED_AS: Final = (("nvidia.com/", GPU), ("aws.amazon.com/neuron", "aws.amazon.com/neuron"))


def is_accelerator(name: str, further: Collection[str] = ()) -> bool:
    """Whether the name is that of an accelerator; `further` are the names of the site."""
    return name in NAMES or name.startswith(PREFIXES) or name in further


def taint_keys(names: Collection[str]) -> tuple[str, ...]:
    """Taint keys of nodes with these accelerators: the resource names and the family names.

    Nodes with MIG profiles or shared GPUs usually have the taint of all GPU nodes.
    """
    families = [key for name in names for prefix, key in _TAINTED_AS if name.startswith(prefix)]
    return tuple(dict.fromkeys((*sorted(families), *sorted(names))))
