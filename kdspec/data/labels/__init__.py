"""Labels of rows: how they are written, and what looks wrong among them."""
