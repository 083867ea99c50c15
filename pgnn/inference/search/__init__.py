"""Most probable states by search and by bounds."""
