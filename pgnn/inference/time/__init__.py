"""Models over time: chains of states, their engines and learners."""
