"""Finished masks as files other tools read."""
