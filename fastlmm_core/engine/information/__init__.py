"""Average, observed and expected information, and the directions in which parameters move V."""
