"""Policies for mixtures of experts: how many experts a token uses, and where experts are."""
