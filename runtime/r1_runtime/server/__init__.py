"""The OpenAI-compatible door of one model; it is open from the first moment, ready when loaded."""
