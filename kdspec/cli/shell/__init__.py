"""What the shell and kdspec do for each other: completion of words, and how threads wait."""
