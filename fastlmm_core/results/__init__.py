"""The fitted model and its tables: components, genotypes, factors, field, diagnostics have folders."""
