"""Results on disk: parts that survive a kill, and reading them again."""
