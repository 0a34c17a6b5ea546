"""The structured equations: terms, nodes, patterns, and the pieces that depend on the parameters."""
