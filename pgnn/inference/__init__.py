"""Engines that answer questions and learners that fit models."""
