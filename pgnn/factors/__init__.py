"""Local pieces: variables, factors, conditionals p(child | parents) and potentials."""
