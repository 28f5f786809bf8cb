"""Shared library of operator, gateway, forecaster and runtime; it imports none of them."""
