"""Metrics, the best checkpoint, the final comparison and the benchmark."""
