"""Losses between logits, features and relations, and temperatures."""
