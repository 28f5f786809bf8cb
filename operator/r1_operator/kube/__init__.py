"""Access to the Kubernetes API: client, object stores, leader election, Events."""
