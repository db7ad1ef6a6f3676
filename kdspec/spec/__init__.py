"""The models of a spec, their checks, and its JSON Schema."""
