"""The engine: mixed model equations, REML/ML criterion, information, optimizer."""
