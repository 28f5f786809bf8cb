"""A policy of sparse attention as the native library reads it."""

from __future__ import annotations

from r1_runtime.backends.cpu.library import Sparsity
from r1_runtime.sparsity.heads import HeadMode, uniform
from r1_runtime.sparsity.policy import DynamicSparseAttention


def native_sparsity(policy: DynamicSparseAttention, heads: tuple[int, ...]) -> Sparsity:
    """The structure of a policy.

    Args:
        policy: the policy.
        heads: key heads of each layer.

    Raises:
        OptionError: the policy has head modes of another model.
    """
    modes = policy.heads or uniform(heads, HeadMode.SPARSE)
    modes.check(heads, "head modes")
    low, high = policy.drop_range if policy.adaptive else (0.0, 0.0)
    return Sparsity(
        keep=1.0 - policy.sparsity,
        drop_low=low,
        drop_high=high,
        mass=policy.mass if policy.adaptive else 0.0,
        spread=policy.spread,
        from_context=policy.from_context,
        sink_units=policy.sink_units,
        last_units=policy.recent_units,
        window_units=policy.window_units,
        correct=policy.correction,
        prompts=policy.prompts,
        modes=modes.flat,
    )
