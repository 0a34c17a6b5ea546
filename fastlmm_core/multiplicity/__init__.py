"""Many tests at once: adjusted p values and critical values, and the distributions behind them."""
