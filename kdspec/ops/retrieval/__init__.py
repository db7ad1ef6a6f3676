"""Retrieval: exact search over vectors, and metrics of rankings."""
