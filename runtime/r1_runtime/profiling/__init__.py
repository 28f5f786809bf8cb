"""Offline measurements of a model whose results are files beside its checkpoint."""
