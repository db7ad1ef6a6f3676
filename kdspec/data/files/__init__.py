"""Files of rows: opened, decoded, and read into columns."""
