"""Turns Label Studio's tasks with annotations into clips to export.

Uses `ls_backend.protocol` and `pipeline.export`; needs no running backend.
"""
