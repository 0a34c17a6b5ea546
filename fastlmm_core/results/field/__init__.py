"""The plots of a fit in their field: layout, trend, variogram."""
