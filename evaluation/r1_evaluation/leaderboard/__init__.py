"""Boards: forecasts and scaling policies scored on a recorded load, one command each."""
