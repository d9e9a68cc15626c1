"""Segmenters and trackers by name: the project's own and those of other packages.

Nothing heavy is imported before a part is built.
"""
