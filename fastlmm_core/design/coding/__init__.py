"""From variables to columns of a matrix: contrasts, rank, and the rows that hypotheses are."""
