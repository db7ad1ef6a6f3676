"""Diagnostics, the table of their codes, and the pages of `kdspec explain`."""
