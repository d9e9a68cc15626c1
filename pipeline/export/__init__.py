"""Finished masks as files that other tools read: palette PNGs as in DAVIS, COCO annotations.

Uses `pipeline.types` alone.
"""
