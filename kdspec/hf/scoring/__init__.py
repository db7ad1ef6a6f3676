"""Transformers models that score the candidates of a query."""
