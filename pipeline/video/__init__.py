"""Frames by index from files, folders and lists, in bounded caches.

Uses `pipeline.types` alone.
"""
