"""Image embeddings: a cache in memory and on disk, bounded in bytes, and embedding frames before they are needed.

Uses segmenters and `pipeline.video`; knows nothing of methods and sessions.
"""
