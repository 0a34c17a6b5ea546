"""How well a fit stands: residuals, leverage, influence, conditional AIC, terms that could go."""
