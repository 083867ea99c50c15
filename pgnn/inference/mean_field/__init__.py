"""Mean-field inference for discrete graphs: products of distributions of elements or of blocks."""
