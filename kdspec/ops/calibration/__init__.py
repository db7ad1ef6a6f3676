"""How far a confidence can be trusted, and what makes it fit."""
