"""Model weights: how each published model is built from its file."""
