"""Belief propagation: messages between factors and elements."""
