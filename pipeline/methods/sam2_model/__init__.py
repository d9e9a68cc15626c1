"""SAM 2.1 and EdgeTAM, which segment whole videos with a memory of their own: the network, and a video under it.

Only the method `sam2` uses these modules.
"""
