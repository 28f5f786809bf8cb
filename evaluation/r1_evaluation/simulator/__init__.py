"""Simulators: fluid at rate level, and request level with the gateway's own admission."""
