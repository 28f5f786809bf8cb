"""KEDA's external scaler over gRPC.

KEDA sends the trigger's metadata with each request, so the scaler keeps no state. Without a value
the response is an error: KEDA keeps the replicas or uses its ``fallback``.
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

from r1_common.contracts.forecast_request import InvalidForecastRequest
from r1_common.listen import EVERY_ADDRESS, host_port
from r1_forecasting.published.keda import messages
from r1_forecasting.published.keda.trigger import KedaTrigger, parse_trigger
from r1_forecasting.published.publication import INFERENCE_METRIC
from r1_forecasting.published.published_value import PublishedValue
from r1_forecasting.published.publisher import Publisher
from r1_forecasting.unavailable import ForecastUnavailable

LOG = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""Poll interval of a stream; a forecast is cached for one step."""


@dataclass(frozen=True, slots=True)
class KedaScaler:
    """The five RPCs of ``externalscaler.ExternalScaler``."""

    publisher: Publisher
    poll_seconds: float = POLL_SECONDS

    async def is_active(self, ref: Any, context: Any) -> Any:
        """Return whether the workload needs at least one replica."""
        trigger = await _parse(ref, context)
        published = await self._value(trigger, context)
        return messages.IsActiveResponse(result=trigger.active(published.value))

    async def stream_is_active(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        """Stream the activity: the first value at once, then each change; none without a value."""
        trigger = await _parse(ref, context)
        last: bool | None = None
        while True:
            published = await self.publisher.value_of(trigger.wanted)
            if isinstance(published, ForecastUnavailable):
                LOG.info(
                    "ScaledObject %s/%s has no forecast value: %s",
                    ref.namespace,
                    ref.name,
                    published.message,
                )
            elif last != trigger.active(published.value):
                last = trigger.active(published.value)
                yield messages.IsActiveResponse(result=last)
            await asyncio.sleep(self.poll_seconds)

    async def get_metric_spec(self, ref: Any, context: Any) -> Any:
        """Return the metric's name and its target per replica."""
        return _spec(await _parse(ref, context))

    async def stream_metric_spec(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        """Stream the metric spec once: the target comes from the metadata alone."""
        yield _spec(await _parse(ref, context))
        await asyncio.Event().wait()  # until KEDA closes the stream; an end would make it reconnect

    async def get_metrics(self, request: Any, context: Any) -> Any:
        """Return the value to scale on."""
        trigger = await _parse(request.scaledObjectRef, context)
        published = await self._value(trigger, context)
        # KEDA versions before metricValueFloat read the integer.
        value = messages.MetricValue(
            metricName=INFERENCE_METRIC,
            metricValue=math.ceil(published.value),
            metricValueFloat=published.value,
        )
        return messages.GetMetricsResponse(metricValues=[value])

    async def _value(self, trigger: KedaTrigger, context: Any) -> PublishedValue:
        published = await self.publisher.value_of(trigger.wanted)
        if isinstance(published, ForecastUnavailable):
            await _refuse(
                context, grpc.StatusCode.UNAVAILABLE, f"{published.reason}: {published.message}"
            )
        return published

    def handler(self) -> Any:
        """Build the generic handler of the gRPC server."""
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
                    request_deserializer=message_type.FromString,
                    response_serializer=lambda response: response.SerializeToString(),
                )
                for name, (make, call, message_type) in calls.items()
            },
        )


async def _parse(ref: Any, context: Any) -> KedaTrigger:
    try:
        return parse_trigger(ref.namespace, ref.name, dict(ref.scalerMetadata))
    except InvalidForecastRequest as error:
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))


async def _refuse(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise RuntimeError("gRPC's abort returned")


def _spec(trigger: KedaTrigger) -> Any:
    spec = messages.MetricSpec(
        metricName=INFERENCE_METRIC,
        targetSize=math.ceil(trigger.target),
        targetSizeFloat=trigger.target,
    )
    return messages.GetMetricSpecResponse(metricSpecs=[spec])


async def start_keda_listener(scaler: KedaScaler, host: str, port: int) -> tuple[Any, int]:
    """Listen; return the server and its port (a free port for 0). Raises ``OSError``."""
    # Without SO_REUSEPORT (gRPC's default): a second forecaster on this port has to fail.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((scaler.handler(),))
    try:
        # gRPC binds [::] for both families, and IPv4 alone where IPv6 is missing.
        bound = server.add_insecure_port(host_port(host or EVERY_ADDRESS, port))
    except RuntimeError as error:
        raise OSError(f"cannot listen on port {port} for KEDA: {error}") from error
    await server.start()
    return server, bound
