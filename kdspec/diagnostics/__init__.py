"""What is wrong with a spec, the table of codes, and the pages of `kdspec explain`."""
