"""Learners that fit models, and what they maximise."""
