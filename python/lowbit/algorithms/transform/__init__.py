"""Changes of a model that are equivalent in full precision: one method a file."""
