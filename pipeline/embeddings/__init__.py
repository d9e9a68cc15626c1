"""Image embeddings: the cache in memory, its disk below it, and embedding frames ahead of their use.

Bounded in bytes; knows segmenters, not methods or sessions.
"""
