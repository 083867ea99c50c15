"""Arrays of units: what values they have, and dense arithmetic on layers of them."""
