"""Several runs side by side: what differs in their specs, their figures and their curves."""
