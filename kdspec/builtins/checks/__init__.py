"""Rules of a spec beyond its shape."""
