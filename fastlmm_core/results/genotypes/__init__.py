"""What a fit says of genotypes: values, decisions, heritability, markers."""
