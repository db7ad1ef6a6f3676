"""Runs a plan's training step on fake tensors: shapes, sizes and cost, from configurations alone."""
