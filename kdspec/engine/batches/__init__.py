"""Which rows are in which micro-batch, and how rows become tensors."""
