"""Aggregated API ``external.metrics.k8s.io`` for HPAs.

It serves no OpenAPI: the aggregator accepts a 404, and the group has no objects to apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from r1_forecasting.published import external_metrics as documents
from r1_forecasting.published.catalogue import Catalogue
from r1_forecasting.published.external_metrics import GROUP, GROUP_VERSION, MetricRequestRefused
from r1_forecasting.published.front_proxy import FrontProxy, common_name
from r1_forecasting.published.publisher import Publisher
from r1_forecasting.unavailable import ForecastUnavailable


@dataclass(frozen=True, slots=True)
class ExternalMetricsApi:
    """``catalogue`` and ``trust`` are read at each request, since both change at run time."""

    publisher: Publisher
    catalogue: Callable[[], Catalogue]
    trust: Callable[[], FrontProxy | None]

    def application(self) -> web.Application:
        """Build the application; every request passes the front proxy check."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/apis", self._groups),
                web.get(f"/apis/{GROUP}", self._group),
                web.get(f"/apis/{GROUP_VERSION}", self._resources),
                web.get(f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{{metric}}", self._metric),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            trust = self.trust()
            if trust is None:
                raise MetricRequestRefused(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "the front proxy is not known yet: the ConfigMap has not been read",
                )
            certificate = request.get_extra_info("peercert")
            trust.check(common_name(certificate), request.headers)
            return await handler(request)
        except MetricRequestRefused as error:
            refused = error
        except web.HTTPException as error:
            refused = MetricRequestRefused(
                HTTPStatus(error.status), f"{request.path}: {error.reason}"
            )
        return web.json_response(refused.status, status=refused.code)

    async def _groups(self, _: web.Request) -> web.Response:
        return web.json_response(documents.group_list())

    async def _group(self, _: web.Request) -> web.Response:
        return web.json_response(documents.group())

    async def _resources(self, _: web.Request) -> web.Response:
        return web.json_response(documents.resource_list(self.catalogue()))

    async def _metric(self, request: web.Request) -> web.Response:
        metric = request.match_info["metric"]
        wanted, labels = documents.find_metric(
            self.catalogue(),
            request.match_info["namespace"],
            metric,
            request.query.get("labelSelector", ""),
        )
        value = await self.publisher.value_of(wanted)
        if isinstance(value, ForecastUnavailable):
            # Neither an empty list nor 0: on an error the HPA keeps its replicas and shows the message.
            raise MetricRequestRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{value.reason}: {value.message}"
            )
        return web.json_response(documents.value_list(metric, labels, value))
