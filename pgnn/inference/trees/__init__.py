"""Distributions over trees on the words of a sentence: sums, most probable trees, samples."""
