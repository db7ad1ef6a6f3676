"""Tasks and augmentations."""
