"""Sums over real variables that are jointly normal given discrete ones."""
