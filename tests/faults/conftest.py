"""Stories on a real API server."""

from api_story import api, namespace

__all__ = ["api", "namespace"]
