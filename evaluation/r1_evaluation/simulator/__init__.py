"""A pool of replicas at request level: the gateway's own admission before simulated engines."""
