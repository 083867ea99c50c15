"""Approximate answers on discrete graphs: propagation, mean field, chains, decompositions."""
