"""A run on disk: its stages, checkpoints, logs, locks and how it resumes."""
