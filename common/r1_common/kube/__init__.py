"""Access to the Kubernetes API server without a generated client."""
