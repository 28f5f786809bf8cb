"""Continuous batching: scheduler and cache blocks (without torch), model runner, engine loop."""
