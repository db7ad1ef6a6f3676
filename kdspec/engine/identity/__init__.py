"""The identity of a run: its spec, and the content of what it reads."""
