"""Tasks with annotations as clips to export.

Uses the protocol and `pipeline.export`; needs no running backend.
"""
