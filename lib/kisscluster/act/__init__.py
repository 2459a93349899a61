"""A plan becomes calls of other programs."""
