"""The diagnostic codes."""
