"""Segmenters turn prompts into masks of single frames: `base` is their interface, the rest are implementations.

They may use `pipeline.types`, `pipeline.masks` and `model_zoo`; they know no methods, sessions or trackers.
"""
