"""Inference of real variables: variational inference, Hamiltonian chains, program executions."""
