"""Samples rows, splits them into micro-batches, and turns rows into tensors."""
