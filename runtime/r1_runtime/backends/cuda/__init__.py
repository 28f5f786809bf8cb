"""The backend for NVIDIA GPUs: torch for dense matrices, Triton for attention, experts and sampling."""
