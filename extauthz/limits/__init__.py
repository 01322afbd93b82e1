"""How often a key may ask, and how much of it at once."""
