"""OpenAI-compatible HTTP server of one model: it listens at once and is ready when loaded."""
