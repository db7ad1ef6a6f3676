"""Prompts that a language model answers with one of the classes of a row."""
