"""Mixtures of experts: dynamic experts, and experts in memory and on disk."""
