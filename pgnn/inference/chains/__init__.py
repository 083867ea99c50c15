"""Chains of discrete states: messages, paths and draws."""
