"""From starts to a certified optimum."""
