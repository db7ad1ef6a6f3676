"""What a strategy needs, and the plan that comes of it."""
