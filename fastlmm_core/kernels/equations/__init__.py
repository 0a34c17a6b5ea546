"""Henderson's equations as arrays: columns, cross-products, loadings, and products on their patterns."""
