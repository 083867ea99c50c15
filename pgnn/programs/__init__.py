"""Pyro programs read as models, and models written as Pyro programs."""
