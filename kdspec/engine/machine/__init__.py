"""The machine: how many processors may be used, and how fast it multiplies matrices."""
