"""A plan's training step on tensors without contents: shapes, sizes and cost, from configurations alone."""
