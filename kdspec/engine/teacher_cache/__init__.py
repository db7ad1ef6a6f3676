"""The teacher cache: outputs of frozen teachers for each row, on disk."""
