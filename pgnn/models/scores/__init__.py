"""Scores of labels given inputs: the parts of conditional random fields."""
