"""Monte Carlo answers for discrete graphs: chains and weighted draws."""
