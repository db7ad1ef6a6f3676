"""The models of a spec: what a user may write."""
