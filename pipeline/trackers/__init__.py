"""Trackers that follow points or boxes through a range of frames.

They read frames by index and know no segmenter, no method and no session.
"""
