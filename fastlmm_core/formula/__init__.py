"""The language of models: expressions, terms, bars, structures and residuals, as text and as what it says."""
