"""Models of the transformers library: families, configurations, loading, copies of layers, heads."""
