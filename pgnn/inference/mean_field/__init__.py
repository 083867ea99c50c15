"""Variational answers for discrete graphs by products of distributions or of blocks."""
