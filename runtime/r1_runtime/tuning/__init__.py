"""Techniques that make a model cheaper, what each costs in quality, and the choice within a budget."""
