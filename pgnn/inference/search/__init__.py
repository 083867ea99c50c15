"""Most probable states by search and by upper bounds."""
