"""The teacher cache: what a frozen teacher says of each row, kept on the disk."""
