"""What a teacher answers, and a cache keeps: rows, or pieces of rows."""
