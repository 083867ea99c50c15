"""Answers from weighted particles: executions of programs, paths drawn step by step."""
