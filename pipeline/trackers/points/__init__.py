"""Point trackers: where points of one frame are on others, and whether they are visible there.

`base` has the protocol; each other module holds one tracker and the function that builds it.
"""
