"""Requests of other programs, answered by processes that stay: lines on standard input, or HTTP."""
