"""Checks of ranking and search."""
