"""Replicas that the measured demand, backlog and latencies need."""
