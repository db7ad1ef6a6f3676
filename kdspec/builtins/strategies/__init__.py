"""Distillation strategies."""
