"""Factor-analytic terms: loadings, shares of variance, comparison, biplot."""
