"""Micro-batches of a step side by side: each lane of them in a thread, with gradients and a generator of its own."""
