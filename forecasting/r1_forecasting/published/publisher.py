"""Between the doors and the forecaster: what is wanted goes in, the number to show comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from r1_forecasting.protocol import ForecastUnavailable, UnavailableReason
from r1_forecasting.published.publication import InferenceName, Publication
from r1_forecasting.published.value import PublishedValue, published_value
from r1_forecasting.service.request import ActivationRule, ForecastRequest

PATIENCE = 4.0
"""Seconds a caller waits for a first answer; the API server gives an HPA's question longer."""


class Answers(Protocol):
    """The forecaster, as far as publishing needs it."""

    async def answer(self, request: ForecastRequest, patience: float) -> dict[str, Any]: ...

    async def standing_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None: ...


@dataclass(frozen=True, slots=True)
class Publisher:
    """Values of what is published, from the same subjects that answer the operator."""

    answers: Answers
    patience: float = PATIENCE

    async def value_of(
        self, wanted: Publication | InferenceName
    ) -> PublishedValue | ForecastUnavailable:
        """The number to show now, or why there is none."""
        if isinstance(wanted, Publication):
            return await self._value(wanted.request, wanted.activation)
        # Asked with the operator's own question, the answer is the one it made already.
        standing = await self.answers.standing_request(wanted.subject)
        if isinstance(standing, ForecastUnavailable):
            return standing
        if standing is None:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"the operator asks for no forecast of an R1Inference {wanted.subject}: check "
                "the name and that its spec.autoscaling.forecast is not Never",
            )
        if wanted.priority_class is None:
            return await self._value(standing, standing.activation)
        of_class = dict(standing.class_queries).get(wanted.priority_class)
        if of_class is None:
            there = ", ".join(name for name, _ in standing.class_queries) or "none"
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"{wanted.subject} has no forecast of the class {wanted.priority_class}; "
                f"there are {there}",
            )
        subject = f"{wanted.subject}/{wanted.priority_class}"
        asked = replace(standing, subject=subject, query=of_class, class_queries=())
        return await self._value(asked, standing.activation)

    async def _value(
        self, request: ForecastRequest, activation: ActivationRule
    ) -> PublishedValue | ForecastUnavailable:
        answer = await self.answers.answer(request, self.patience)
        return published_value(answer, request.decision_level, activation)
