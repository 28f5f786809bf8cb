"""Price of tokens, for the cost of each tenant's use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from r1_common.contracts.route import RouteSpec

EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Price:
    """Price per million tokens, in the currency of the site."""

    input: float = 0.0
    output: float = 0.0

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Price of a request."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


FREE = Price()


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model: ``namespace/name``, else the name, else ``*``."""

    by_model: Mapping[str, Price] = field(default_factory=dict)

    def of(self, spec: RouteSpec) -> Price:
        """Price of a resource's tokens; 0 without one."""
        prices = self.by_model
        if not prices:
            return FREE
        return prices.get(spec.key) or prices.get(spec.name) or prices.get(EVERY_MODEL) or FREE
