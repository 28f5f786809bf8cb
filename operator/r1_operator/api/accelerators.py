"""Which resources of a container are accelerators: names of the vendors' device plugins.

Each is counted in whole devices. A MIG profile and a time-sliced share are one device each, as a
container sees them. A site names further resources in the operator's settings.
"""

from collections.abc import Collection
from typing import Final

GPU: Final = "nvidia.com/gpu"

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
"""Families of names: MIG profiles; neuron, neuroncore and neurondevice."""

_TAINTED_AS: Final = (("nvidia.com/", GPU), ("aws.amazon.com/neuron", "aws.amazon.com/neuron"))


def is_accelerator(name: str, further: Collection[str] = ()) -> bool:
    """Whether a resource of this name is an accelerator; `further` are the site's names."""
    return name in NAMES or name.startswith(PREFIXES) or name in further


def taint_keys(names: Collection[str]) -> tuple[str, ...]:
    """Keys by which nodes with these accelerators keep other pods away: their own and the family's.

    Nodes with MIG profiles or shared GPUs are most often tainted as all GPU nodes are.
    """
    families = [key for name in names for prefix, key in _TAINTED_AS if name.startswith(prefix)]
    return tuple(dict.fromkeys((*sorted(families), *sorted(names))))
