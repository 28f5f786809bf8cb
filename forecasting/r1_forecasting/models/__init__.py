"""Forecasting models, one per file; heavy libraries are imported only inside ``fit``."""
