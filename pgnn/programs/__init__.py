"""Pyro programs as models, and models as Pyro programs."""
