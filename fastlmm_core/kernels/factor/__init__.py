"""Elimination orders, Cholesky factors and what is read from them: by columns, and by supernodes."""
