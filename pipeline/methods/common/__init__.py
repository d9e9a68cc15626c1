"""What several methods use: the decoding of prompts into masks, masks carried by optical flow, and a video's state.

Modules here know segmenters and memories, but no method.
"""
