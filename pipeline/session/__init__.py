"""Rounds over one video: prompts, masks, history, ranges, propagation, confidence, the next frame to correct.

Uses methods through `pipeline.methods.base`; the one owner of a video's masks.
"""
