"""Recorded answers: probabilities, logits, log-probabilities and votes in columns of the rows, read and checked."""
