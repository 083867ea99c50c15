"""Groups of factors: every kind is a class with its own operations."""
