"""Non-negative local functions of undirected models."""
