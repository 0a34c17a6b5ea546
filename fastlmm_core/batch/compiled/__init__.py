"""The compiled path of a batch: what it takes, its runs, and tables from the arrays they leave."""
