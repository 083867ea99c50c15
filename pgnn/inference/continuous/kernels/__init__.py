"""Compiled CPU kernels of Hamiltonian Monte Carlo."""
