"""From a checkpoint to the network on the device, one tensor at a time.

Stored FP8 blocks stay FP8. All other encodings become the computation's type; routed experts become
INT4 on request.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from r1_runtime.architecture.description import (
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    MixtureOfExperts,
)
from r1_runtime.backends.cuda.attention import GroupedQueryLayer, LatentLayer, Norm
from r1_runtime.backends.cuda.feed_forward import Mixture, SwiGLU
from r1_runtime.backends.cuda.kernels.grouped_matmul import (
    ExpertMatrices,
    Form,
)
from r1_runtime.backends.cuda.matrices import DenseLinear, Linear, PackedLinear
from r1_runtime.backends.cuda.network import DecoderLayer, Network, Rotation
from r1_runtime.backends.cuda.packing import float8_rows, pack_int4
from r1_runtime.backends.reference.mixture import Router
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Checkpoint, Encoding, StoredTensor

# Encodings that torch reads as they are.
_PLAIN = {
    Encoding.F32: torch.float32,
    Encoding.F16: torch.float16,
    Encoding.BF16: torch.bfloat16,
}


def load_network(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, int4_experts: bool = False
) -> Network:
    """The network with the checkpoint's weights.

    Args:
        checkpoint: an open checkpoint.
        device: of weights and computation.
        dtype: of the computation, and of weights that are not packed; routers compute in float32.
        int4_experts: pack the routed experts to 4 bits.

    Raises:
        ModelLoadError: the checkpoint lacks a tensor.
    """
    return _Loader(checkpoint, device, dtype, int4_experts).network()


class _Loader:
    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, int4_experts: bool
    ) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._dtype = dtype
        self._int4_experts = int4_experts
        self._bytes = 0

    def network(self) -> Network:
        description = self._checkpoint.description
        embedding = self._dense("embed_tokens.weight")
        layers = [self._layer(index) for index in range(len(description.layers))]
        head: Linear = DenseLinear(embedding) if description.tied_head else self._linear("lm_head")
        ropes = dict.fromkeys(layer.attention.rope for layer in description.layers)
        return Network(
            description=description,
            embedding=embedding,
            layers=layers,
            rotations={
                rope: Rotation(
                    torch.tensor(
                        rope.inverse_frequencies, dtype=torch.float32, device=self._device
                    ),
                    rope.cos_sin_scale,
                )
                for rope in ropes
            },
            norm=self._norm("norm", description.norm_eps),
            head=head,
            weight_bytes=self._bytes,
        )

    def _layer(self, index: int) -> DecoderLayer:
        description, name = self._checkpoint.description, f"layers.{index}"
        layer, eps = description.layers[index], description.norm_eps
        attention = layer.attention
        return DecoderLayer(
            input_norm=self._norm(f"{name}.input_layernorm", eps),
            attention=self._grouped(f"{name}.self_attn", attention, eps)
            if isinstance(attention, GroupedQueryAttention)
            else self._latent(f"{name}.self_attn", attention),
            post_attention_norm=self._norm(f"{name}.post_attention_layernorm", eps),
            feed_forward=self._feed_forward(f"{name}.mlp", layer.feed_forward),
        )

    def _grouped(
        self, name: str, attention: GroupedQueryAttention, eps: float
    ) -> GroupedQueryLayer:
        bias, normed = attention.qkv_bias, attention.qk_norm
        return GroupedQueryLayer(
            attention,
            q_proj=self._linear(f"{name}.q_proj", bias=bias),
            k_proj=self._linear(f"{name}.k_proj", bias=bias),
            v_proj=self._linear(f"{name}.v_proj", bias=bias),
            o_proj=self._linear(f"{name}.o_proj", bias=attention.output_bias),
            q_norm=self._norm(f"{name}.q_norm", eps) if normed else None,
            k_norm=self._norm(f"{name}.k_norm", eps) if normed else None,
        )

    def _latent(self, name: str, attention: LatentAttention) -> LatentLayer:
        bias, eps = attention.bias, attention.inner_norm_eps
        query: tuple[Linear, Norm, Linear] | tuple[Linear]
        if attention.q_lora_rank is None:
            query = (self._linear(f"{name}.q_proj"),)
        else:
            query = (
                self._linear(f"{name}.q_a_proj", bias=bias),
                self._norm(f"{name}.q_a_layernorm", eps),
                self._linear(f"{name}.q_b_proj"),
            )
        both = self._dense(f"{name}.kv_b_proj.weight")
        both = both.view(attention.heads, -1, attention.kv_lora_rank)
        to_key, to_value = both.split_with_sizes(
            [attention.qk_nope_head_dim, attention.v_head_dim], dim=1
        )
        return LatentLayer(
            attention,
            query,
            self._linear(f"{name}.kv_a_proj_with_mqa", bias=bias),
            self._norm(f"{name}.kv_a_layernorm", eps),
            to_key.contiguous(),
            to_value.contiguous(),
            self._linear(f"{name}.o_proj", bias=bias),
        )

    def _feed_forward(self, name: str, feed_forward: FeedForward) -> SwiGLU | Mixture:
        if isinstance(feed_forward, DenseFeedForward):
            return self._swiglu(name)
        return Mixture(
            self._router(f"{name}.gate", feed_forward),
            self._experts(name, feed_forward, ("gate", "up")),
            self._experts(name, feed_forward, ("down",)),
            self._swiglu(f"{name}.shared_experts") if feed_forward.shared_inner else None,
        )

    def _swiglu(self, name: str) -> SwiGLU:
        return SwiGLU(*(self._linear(f"{name}.{part}_proj") for part in ("gate", "up", "down")))

    def _router(self, name: str, mixture: MixtureOfExperts) -> Router:
        router = Router(mixture, self._checkpoint.description.hidden_size)
        state = {"weight": self._dense(f"{name}.weight", torch.float32)}
        if mixture.correction_bias:
            bias = f"{name}.e_score_correction_bias"
            state["e_score_correction_bias"] = self._dense(bias, torch.float32)
        router.load_state_dict(state, strict=True, assign=True)
        return router.requires_grad_(False).eval()

    def _experts(
        self, name: str, mixture: MixtureOfExperts, parts: tuple[str, ...]
    ) -> ExpertMatrices:
        """The matrices of all experts, the named parts below one another."""
        sources = [
            [f"{name}.experts.{expert}.{part}_proj.weight" for part in parts]
            for expert in range(mixture.experts)
        ]
        stored = self._checkpoint.tensor(sources[0][0])
        columns = stored.shape[1]
        if _is_float8(stored):
            form, (values, scales) = Form.FLOAT8, _stacked(sources, self._float8)
        elif self._int4_experts:
            form, (values, scales) = Form.INT4, _stacked(sources, self._int4)
        else:
            form, (values, scales) = Form.DENSE, _stacked(sources, self._plain)
        matrices = ExpertMatrices(form, values, scales, columns)
        self._bytes += matrices.bytes
        return matrices

    def _linear(self, name: str, *, bias: bool = False) -> Linear:
        added = self._dense(f"{name}.bias") if bias else None
        weight = f"{name}.weight"
        if not _is_float8(self._checkpoint.tensor(weight)):
            return DenseLinear(self._dense(weight), added)
        values, scales = self._float8(weight)
        columns = values.shape[1]
        matrix = ExpertMatrices(Form.FLOAT8, values[None], scales[None], columns)
        self._bytes += matrix.bytes
        return PackedLinear(matrix, added)

    def _norm(self, name: str, eps: float) -> Norm:
        return Norm(self._dense(f"{name}.weight"), eps)

    def _dense(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        values, _ = self._plain(name, dtype)
        self._bytes += values.nbytes
        return values

    def _plain(self, name: str, dtype: torch.dtype | None = None) -> tuple[Tensor, None]:
        stored = self._checkpoint.tensor(name)
        plain = _PLAIN.get(stored.encoding)
        values = (
            torch.from_numpy(decode(stored))
            if plain is None
            # A copy, because torch takes no read-only memory.
            else torch.from_numpy(np.array(stored.data).reshape(-1)).view(plain).view(stored.shape)
        )
        values = values.to(self._device).to(dtype or self._dtype)
        self._checkpoint.release(stored)
        return values, None

    def _int4(self, name: str) -> tuple[Tensor, Tensor]:
        stored = self._checkpoint.tensor(name)
        packed = pack_int4(torch.from_numpy(decode(stored)).to(self._device)[None])
        self._checkpoint.release(stored)
        assert packed.scales is not None  # noqa: S101 - for the type checker
        return packed.values[0], packed.scales[0]

    def _float8(self, name: str) -> tuple[Tensor, Tensor]:
        stored = self._checkpoint.tensor(name)
        bytes_ = torch.from_numpy(np.array(stored.data)).to(self._device).view(stored.shape)
        blocks = torch.from_numpy(np.array(stored.scale, np.float32)).to(self._device)
        self._checkpoint.release(stored)
        return float8_rows(bytes_, blocks)


def _is_float8(stored: StoredTensor) -> bool:
    return stored.encoding is Encoding.F8_E4M3 and stored.scale is not None


def _stacked(
    sources: list[list[str]], read: Callable[[str], tuple[Tensor, Tensor | None]]
) -> tuple[Tensor, Tensor | None]:
    """Values and factors [E, N, ...] of matrices, those of an expert below one another."""
    values: Tensor | None = None
    scales: Tensor | None = None
    for expert, names in enumerate(sources):
        parts = [read(name) for name in names]
        rows = torch.cat([value for value, _ in parts])
        factors = [scale for _, scale in parts if scale is not None]
        if values is None:
            values = rows.new_empty((len(sources), *rows.shape))
        values[expert] = rows
        if factors:
            below = torch.cat(factors)
            if scales is None:
                scales = below.new_empty((len(sources), *below.shape))
            scales[expert] = below
    assert values is not None  # noqa: S101 - a mixture has experts
    return values, scales
