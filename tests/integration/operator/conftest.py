"""Stories on a real API server."""

from api_server_fixtures import api, namespace
from fake_services import sites

__all__ = ["api", "namespace", "sites"]
