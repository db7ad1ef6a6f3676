"""Models: transformers, BiGRU and TextCNN."""
