"""Local distributions p(child | parents)."""
