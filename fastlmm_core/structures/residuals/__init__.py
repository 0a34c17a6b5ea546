"""Covariance structures of the residual."""
