"""What stands in a table: columns read and coded, and the values of the expressions of a formula."""
