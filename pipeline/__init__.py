"""Prompts and frames in, masks out. Knows nothing of the web or of Label Studio."""
