"""Methods of interactive video object segmentation: one file per paper, registered as entry points in pyproject.toml.

`base` is what a session asks of a method, `choice` builds one from its parts; methods know no web and no session.
"""
