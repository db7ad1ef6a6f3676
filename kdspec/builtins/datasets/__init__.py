"""Data sets: files, the hub, CoNLL and SQuAD."""
