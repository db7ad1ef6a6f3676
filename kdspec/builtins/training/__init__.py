"""Optimizers, learning-rate schedules and weight schedules."""
