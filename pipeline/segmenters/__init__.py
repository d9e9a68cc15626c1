"""Segmenters turn prompts into masks of single frames: `base` is their interface, the rest are implementations.

They may import `pipeline.types`, `pipeline.masks`, `pipeline.parts.context` and `model_zoo`, but no methods, sessions
or trackers. Each has a ``build`` function that pyproject.toml registers as an entry point.
"""
