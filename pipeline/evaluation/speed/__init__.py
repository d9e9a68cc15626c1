"""`ivos bench speed` and `ivos models speed`: the seconds of a method and its parts, with real or random weights."""
