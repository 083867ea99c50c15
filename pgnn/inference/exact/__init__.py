"""Exact answers: plans, the executors that run them, the junction tree engine."""
