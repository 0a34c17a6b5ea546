"""Processes of our own, which need no script that may be imported again: started, spoken to, ended."""
