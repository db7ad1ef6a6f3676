"""Models of the transformers library: families, configurations, loading, copying layers, heads."""
