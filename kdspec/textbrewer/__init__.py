"""Converts TextBrewer's configurations, read as data, to a spec."""
