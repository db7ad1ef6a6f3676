"""Small networks on token ids that are not transformers."""
