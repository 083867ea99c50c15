"""Unknown real numbers: variational inference, Hamiltonian chains, executions of programs."""
