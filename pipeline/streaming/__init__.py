"""`ivos segment --online`: sources of frames, events and answers, and `OnlineSession`, which segments as frames arrive.

May use `pipeline.methods`, `pipeline.session`, `pipeline.batch` and `pipeline.cli`; no web, no Label Studio.
"""
