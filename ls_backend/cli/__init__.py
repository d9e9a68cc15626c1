"""The command `ivos`: serve, demo and export, together with the pipeline's commands.

Parses options and prints; the work is done elsewhere.
"""
