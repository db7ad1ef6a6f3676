"""Vectors of texts: how they are made of a model's token states, and the folders of sentence-transformers."""
