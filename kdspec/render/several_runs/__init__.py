"""Several runs in the terminal."""
