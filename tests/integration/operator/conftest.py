"""Stories on a real API server."""

from api_story import api, namespace
from sites_story import sites

__all__ = ["api", "namespace", "sites"]
