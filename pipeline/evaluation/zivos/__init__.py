"""`ivos bench --protocol zivos`: the thesis' protocol for a single pass over a video (ziVOS, 6.5 and 6.6).

A simulated annotator gives the objects, watches the masks frame by frame and clicks where the method asks for help. The
thresholds at which method lazy asks are found by `ivos calibrate`, from passes of the same kind.
"""
