"""`ivos bench memory`: the memory policies of a method against each other on one long clip (thesis, 5.5.2)."""
