"""The door for HPAs: ``external.metrics.k8s.io`` behind the API server's aggregator.

No OpenAPI: the aggregator takes a 404 for "none", and nobody applies objects of this group.
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
    """``catalogue`` and ``trust`` are asked for at each request: both change while this runs."""

    publisher: Publisher
    catalogue: Callable[[], Catalogue]
    trust: Callable[[], FrontProxy | None]

    def application(self) -> web.Application:
        """Everything behind one check of who asks."""
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
                    HTTPStatus.SERVICE_UNAVAILABLE, "the front proxy is not known yet"
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
        shown = await self.publisher.value_of(wanted)
        if isinstance(shown, ForecastUnavailable):
            # Not an empty list and not a zero: the HPA keeps its replicas and repeats the words.
            raise MetricRequestRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{shown.reason}: {shown.message}"
            )
        return web.json_response(documents.value_list(metric, labels, shown))
