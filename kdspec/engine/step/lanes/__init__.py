"""Micro-batches of a step in parallel on the CPU: each lane is a thread with its own gradients and random generator."""
