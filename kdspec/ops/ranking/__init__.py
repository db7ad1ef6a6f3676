"""Pure tensor functions for the scores of candidates."""
