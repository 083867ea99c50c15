"""Inference of real variables: variational inference and Hamiltonian Monte Carlo."""
