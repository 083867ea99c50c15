"""Trees over the words of a sentence: sums, best ones, draws."""
