"""Box trackers: where the box of one frame is on others, with a score.

`base` has the protocol; each other module holds one kind of tracker and the functions that build it.
"""
