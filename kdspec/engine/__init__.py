"""Runs a plan: data order, checkpoints, backends and the training loop."""
