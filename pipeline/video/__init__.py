"""Frames by index, from image files and video files, in caches of bounded size.

Uses `pipeline.types` alone.
"""
