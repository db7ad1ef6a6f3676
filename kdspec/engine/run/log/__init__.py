"""The summary of a log, and how its last part is replaced."""
