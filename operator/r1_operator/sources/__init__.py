"""Clients for load signals, forecasts, nodes and metrics; they return typed values or `Unavailable`."""
