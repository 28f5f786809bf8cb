"""Code that several parts share: a leaf library that imports none of them."""
