"""Learners, which fit models, and their objectives."""
