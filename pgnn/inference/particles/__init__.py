"""Particle methods: weighted executions of programs, and resampling."""
