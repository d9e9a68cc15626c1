"""`ivos segment --online`: sources, queue, protocol, answers, and the session over a video that arrives.

Uses methods that can work online; no web, no Label Studio.
"""
