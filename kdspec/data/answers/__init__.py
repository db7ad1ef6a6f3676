"""Answers of models: their scores, their metrics, and the agreement of two models."""
