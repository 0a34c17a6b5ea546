"""What follows from solved equations: linear functions, degrees of freedom, tests, deletion, heritability."""
