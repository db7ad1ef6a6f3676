"""Losses between embeddings, one vector a row."""
