"""The readable backend: the oracle of the others."""
