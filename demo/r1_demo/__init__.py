"""The demonstration: a recorded day on a real cluster, scaled before the load comes."""
