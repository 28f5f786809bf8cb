"""The door for KEDA: its external scaler, over gRPC.

KEDA asks with a trigger's metadata each time, so nothing is kept between questions. What there
is no number for is an error to KEDA, which then holds or takes its fallback.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import grpc.aio

from r1_common.listen import EVERY_ADDRESS, host_port
from r1_forecasting.published import keda_messages as messages
from r1_forecasting.published.keda_trigger import KedaTrigger, parse_trigger
from r1_forecasting.published.publication import INFERENCE_METRIC
from r1_forecasting.published.published_value import PublishedValue
from r1_forecasting.published.publisher import Publisher
from r1_forecasting.request import InvalidRequest
from r1_forecasting.unavailable import ForecastUnavailable

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a stream looks whether it has news; an answer is cached for a step."""


@dataclass(frozen=True, slots=True)
class KedaScaler:
    """The five calls of ``externalscaler.ExternalScaler``."""

    publisher: Publisher
    look_seconds: float = LOOK_SECONDS

    async def is_active(self, ref: Any, context: Any) -> Any:
        """Whether the workload has to have a replica."""
        trigger = await _understood(ref, context)
        shown = await self._shown(trigger, context)
        return messages.IsActiveResponse(result=trigger.active(shown.value))

    async def stream_is_active(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        """The same as it changes, the first at once; silent while there is no number."""
        trigger = await _understood(ref, context)
        said: bool | None = None
        while True:
            shown = await self.publisher.value_of(trigger.wanted)
            if isinstance(shown, ForecastUnavailable):
                LOG.info("%s/%s: %s", ref.namespace, ref.name, shown.message)
            elif said != trigger.active(shown.value):
                said = trigger.active(shown.value)
                yield messages.IsActiveResponse(result=said)
            await asyncio.sleep(self.look_seconds)

    async def get_metric_spec(self, ref: Any, context: Any) -> Any:
        """The metric's name and what one replica carries."""
        return _spec(await _understood(ref, context))

    async def stream_metric_spec(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        """The same, once: the target comes from the metadata and changes only with it."""
        yield _spec(await _understood(ref, context))
        await asyncio.Event().wait()  # until KEDA hangs up; an end would make it ask again

    async def get_metrics(self, request: Any, context: Any) -> Any:
        """The number to scale on."""
        trigger = await _understood(request.scaledObjectRef, context)
        shown = await self._shown(trigger, context)
        # The whole number is read by a KEDA that is older than the other field.
        value = messages.MetricValue(
            metricName=INFERENCE_METRIC,
            metricValue=math.ceil(shown.value),
            metricValueFloat=shown.value,
        )
        return messages.GetMetricsResponse(metricValues=[value])

    async def _shown(self, trigger: KedaTrigger, context: Any) -> PublishedValue:
        shown = await self.publisher.value_of(trigger.wanted)
        if isinstance(shown, ForecastUnavailable):
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, f"{shown.reason}: {shown.message}")
        return shown

    def handler(self) -> Any:
        """What a gRPC server routes calls with."""
        ref, request = messages.ScaledObjectRef, messages.GetMetricsRequest
        once, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        calls = {
            "IsActive": (once, self.is_active, ref),
            "StreamIsActive": (stream, self.stream_is_active, ref),
            "GetMetricSpec": (once, self.get_metric_spec, ref),
            "StreamMetricSpec": (stream, self.stream_metric_spec, ref),
            "GetMetrics": (once, self.get_metrics, request),
        }
        return grpc.method_handlers_generic_handler(
            messages.SERVICE,
            {
                name: make(
                    call,
                    request_deserializer=asked.FromString,
                    response_serializer=lambda answer: answer.SerializeToString(),
                )
                for name, (make, call, asked) in calls.items()
            },
        )


async def _understood(ref: Any, context: Any) -> KedaTrigger:
    try:
        return parse_trigger(ref.namespace, ref.name, dict(ref.scalerMetadata))
    except InvalidRequest as error:
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))


async def _refuse(context: Any, code: grpc.StatusCode, said: str) -> NoReturn:
    await context.abort(code, said)
    raise RuntimeError("gRPC's abort came back")


def _spec(trigger: KedaTrigger) -> Any:
    spec = messages.MetricSpec(
        metricName=INFERENCE_METRIC,
        targetSize=math.ceil(trigger.target),
        targetSizeFloat=trigger.target,
    )
    return messages.GetMetricSpecResponse(metricSpecs=[spec])


async def start_keda_listener(scaler: KedaScaler, host: str, port: int) -> tuple[Any, int]:
    """Listen; returns the server and its port (a free one for 0). Raises ``OSError``."""
    # Without sharing, which is gRPC's default: a second forecaster on this port has to hear of it.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((scaler.handler(),))
    try:
        # gRPC itself takes [::] for both families, and for IPv4 where there is no IPv6.
        bound = server.add_insecure_port(host_port(host or EVERY_ADDRESS, port))
    except RuntimeError as error:
        raise OSError(f"port {port} for KEDA cannot be opened: {error}") from error
    await server.start()
    return server, bound
