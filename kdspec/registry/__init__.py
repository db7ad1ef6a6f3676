"""Finds and loads plugins, and looks components up by kind and name."""
