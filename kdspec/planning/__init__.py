"""A spec to a plan: everything resolved, without torch."""
