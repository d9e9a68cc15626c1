"""The command `ivos`: serve, demo and export, and the pipeline's commands mounted beside them.

Parses options and prints; the work is done elsewhere.
"""
