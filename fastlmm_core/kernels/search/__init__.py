"""Criterion, score and the search for its minimum; what decides where it starts and ends."""
