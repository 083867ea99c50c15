"""Arrays of units: their kinds of values, and dense arithmetic on layers of units."""
