"""Rounds of interaction over one video: the masks of all objects, propagation, and the next frame to correct.

Start reading at `session.Session`. Uses methods through `pipeline.methods.base` alone.
"""
