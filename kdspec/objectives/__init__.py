"""Soft labels, hard labels, match terms and their sum, for our strategies and those of other packages."""
