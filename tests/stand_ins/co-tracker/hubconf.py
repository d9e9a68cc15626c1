"""Stand-in for hubconf.py of the official code of CoTracker."""


def cotracker3_offline(*, pretrained: bool = True, **kwargs):
    """As upstream, which would load weights from the net if asked to."""
    assert not pretrained
    assert not kwargs
    from cotracker.predictor import CoTrackerPredictor

    return CoTrackerPredictor(checkpoint=None, window_len=60, v2=False)
