"""Queries and their candidates: read from rows of several formats, as model inputs, and ranked."""
