"""One engine for all covariance structures: C = F' G(theta_R) F + P(theta_L); see docs/architecture.md."""
