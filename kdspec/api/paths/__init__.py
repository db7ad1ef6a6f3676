"""Field paths: where in a model's output or batch a feature is."""
