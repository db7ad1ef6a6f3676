"""Loads models, runs them, and captures the features that a stage reads."""
