"""Attention of transformers models: its weights where they are read, before dropout and before the softmax."""
