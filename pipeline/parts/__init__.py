"""Segmenters and trackers by name: entry points of this project and of other packages, device and weights.

Nothing heavy is imported before a part is built.
"""
