"""Division of a feed-forward layer's neurons into a shared part and experts of equal size.

A SwiGLU layer is a sum over its neurons, so any division is exact while all parts run. The shared part
has the neurons of the largest mean contribution. The others are clustered by co-activation: neurons
that contribute to the same tokens share an expert (MoEfication, arXiv 2110.01786).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class NeuronGroups:
    """Neuron numbers of each part, ascending.

    Attributes:
        shared: [S]; empty without a shared part.
        experts: [E, neurons of an expert].
    """

    shared: Tensor
    experts: Tensor


def group_neurons(activity: Tensor, shared: int, experts: int, seed: int) -> NeuronGroups:
    """Divide neurons by their activity.

    Args:
        activity: [tokens, neurons] size of each neuron's contribution to the layer's output.
        shared: neurons of the shared part.
        experts: number of experts; divides the other neurons.
        seed: of the clusters' start.

    Raises:
        ValueError: the other neurons are not a multiple of the experts.
    """
    neurons = activity.shape[1]
    if shared >= neurons or (neurons - shared) % experts:
        raise ValueError(
            f"{neurons} neurons less {shared} shared ones are not a multiple of {experts} experts"
        )
    order = activity.square().mean(0).argsort(descending=True, stable=True)
    rest = order[shared:].sort().values
    labels = _balanced_clusters(F.normalize(activity[:, rest].T, dim=1), experts, seed)
    return NeuronGroups(
        order[:shared].sort().values, rest[labels.argsort(stable=True)].view(experts, -1)
    )


def _balanced_clusters(points: Tensor, clusters: int, seed: int) -> Tensor:
    """Cluster of each unit vector [points, dims], all of one size: k-means with full clusters closed."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(points), generator=generator)[:clusters]
    centres = points[start]
    labels = torch.zeros(len(points), dtype=torch.long)
    for _ in range(_ROUNDS):
        before, labels = labels, _assign(points @ centres.T)
        if torch.equal(before, labels):
            break
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        centres = F.normalize(sums, dim=1)
    return labels


def _assign(similarity: Tensor) -> Tensor:
    """The most similar cluster with room, [points, clusters] -> [points]; clear cases come first."""
    count, clusters = similarity.shape
    best = similarity.topk(min(2, clusters), dim=1).values
    order = (best[:, 0] - best[:, -1]).argsort(descending=True, stable=True)
    room = [count // clusters] * clusters
    labels = torch.empty(count, dtype=torch.long)
    preferred = similarity.argsort(dim=1, descending=True, stable=True).tolist()
    for point in order.tolist():
        cluster = next(one for one in preferred[point] if room[one])
        room[cluster] -= 1
        labels[point] = cluster
    return labels
