"""Probabilistic graphical models and probabilistic programs with neural networks as parts."""
