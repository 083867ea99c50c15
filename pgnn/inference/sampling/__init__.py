"""Monte Carlo inference for discrete graphs: Markov chains and weighted samples."""
