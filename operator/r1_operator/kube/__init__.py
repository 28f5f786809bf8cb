"""The edge to the Kubernetes API: a client, views of what the watches said, the Lease, Events."""
