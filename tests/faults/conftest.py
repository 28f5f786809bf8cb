"""Stories on a real API server."""

from api_server_fixtures import api, namespace

__all__ = ["api", "namespace"]
