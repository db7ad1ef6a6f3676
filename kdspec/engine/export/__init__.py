"""Writes a trained model as a folder that needs no kdspec."""
