"""The edge to the Kubernetes API: a client, stores of what the watches said, the Lease, Events."""
