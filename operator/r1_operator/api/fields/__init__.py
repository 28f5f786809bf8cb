"""Declaration, values and parsing of API fields."""
