"""The engine of plain models, with sigma2 profiled out: equations, REML/ML criterion, information, search."""
