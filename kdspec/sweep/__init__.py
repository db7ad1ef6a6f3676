"""A sweep: many runs of one spec, with other values and seeds, side by side and resumable as a whole."""
